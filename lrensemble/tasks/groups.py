"""Rows that belong together (of one patient, one recording): where that stands, and splits that keep them whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError
from lrensemble.opening import read_bytes
from lrensemble.patterns import find_pattern
from lrensemble.tasks.labels import Labels, few

Groups = NDArray[Any]  # (N,) texts
Index = NDArray[np.intp]
MOST_FOLDS = (10, 100)  # usually, and for shares near 0 or 1
MOST_TEXT = 64 << 20  # bytes of a file of groups


def as_groups(values: NDArray[Any], where: str) -> Groups:
    """Groups (N,) as texts, from whole numbers or texts (N,) or (N, 1)."""
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != 1 or values.dtype.kind not in "iubU":
        raise UserError(f"{where}: groups must be one number or text a row, not {values.dtype} of {values.shape}")
    return values.astype(str)


def groups_of_paths(paths: Iterable[str], pattern: str, where: str) -> Groups:
    """What a regular expression finds in every path (CLASS/NAME.png): its first group in brackets, else all of it."""
    names = tuple(paths)
    found = find_pattern(pattern, names, "data.groups")
    if unknown := [name for name, group in zip(names, found, strict=True) if group is None]:
        raise UserError(f"data.groups = {pattern}: it finds nothing in {few(unknown)} ({where})")
    return np.array(found)


def read_groups(path: Path) -> Groups:
    """A text file with the group of one train row on every line."""
    try:
        lines = read_bytes(path.expanduser(), MOST_TEXT).decode("utf-8-sig").splitlines()
        return np.array([line.strip() for line in lines])
    except UnicodeDecodeError:
        raise UserError(
            f"data.groups = {path}: not a text file with the group of one train row on every line"
        ) from None


def check_groups(splits: Mapping[str, Groups | None]) -> list[str]:
    """Raise `UserError` when a group has rows in two splits; return what cannot be known."""
    known = {name: set(groups.tolist()) for name, groups in splits.items() if groups is not None}
    names = list(known)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if both := sorted(known[first] & known[second]):
                raise UserError(
                    f"data.groups: {few(both)} {'has' if len(both) == 1 else 'have'} rows in {first} and in {second}, "
                    "which tells nothing about rows of others: move all rows of a group to one of them"
                )
    return [
        f"data.groups: the groups of the {name} rows are not known, so it is not checked that train has none of them"
        for name, groups in splits.items()
        if groups is None
    ]


def cut_groups(labels: Labels, groups: Groups, fraction: float, seed: int, what: str) -> tuple[Index, Index]:
    """Cut about a share `fraction` of the rows off, whole groups, stratified as far as they allow: (rest, cut).

    Folds of scikit-learn's `StratifiedGroupKFold`, for example three of ten for a share of 0.3. Of those, the ones that
    leave train and then validation most classes, and are nearest to the share.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names, codes = np.unique(groups, return_inverse=True)
    least = min(fraction, 1 - fraction, 1 / MOST_FOLDS[0])
    finest = min(round(1 / least), MOST_FOLDS[1])  # folds that the share is a whole number of, or nearly
    folds = Fraction(min(max(fraction, 1 / finest), 1 - 1 / finest)).limit_denominator(finest).denominator
    folds = min(folds, len(names), int(np.bincount(labels).max()))
    if folds < 2:
        raise UserError(f"{what} = {fraction}: all train rows are of one group, {names[0]}, or no two of one class")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer rows than folds
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        fold = np.empty(len(labels), dtype=int)
        for i, (_, part) in enumerate(splitter.split(labels, labels, codes)):
            fold[part] = i
    taken = min(max(1, round(fraction * folds)), folds - 1)
    cuts = [(fold - first) % folds < taken for first in range(folds)]

    def loss(off: NDArray[np.bool_]) -> tuple[int, int, float]:
        """Groups are of any size, and some have all rows of a class: what train and validation lack, then the share."""
        kept = [-len(np.unique(labels[side])) for side in (~off, off)]
        return kept[0], kept[1], abs(float(off.mean()) - fraction)

    off = min(cuts, key=loss)
    if len(lacking := np.setdiff1d(labels, labels[~off])):
        raise UserError(
            f"{what} = {fraction}: train would keep no row of class {few(lacking)}, whose rows are all in groups of "
            "validation: another data.split_seed, a smaller share, or a validation split of your own"
        )
    return np.flatnonzero(~off), np.flatnonzero(off)
