"""Labels as class numbers from 0: from whole numbers of any type, or names of classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrensemble.array import Array
from lrensemble.errors import UserError, did_you_mean
from lrensemble.pool.files import read_array

PREDICTED = ("val", "test")  # splits that members leave predictions for
MOST_CLASSES = 100_000  # where no column says that there are more


def class_numbers(values: Array | Sequence[str], names: Sequence[str], where: str, named: bool | None = None) -> Array:
    """Labels (N,) as class numbers from 0: labels are these already, or names of classes.

    Parameters
    ----------
    named : bool, optional
        For classes whose names are numbers, such as 1, 2, 3: whether labels are names. None: found out.
    """
    values = np.asarray(values)
    if values.dtype.kind in "US":
        index = {name: i for i, name in enumerate(names)}
        if {str(v).lower() for v in values} <= {"false", "true"}:
            index = {"false": 0, "true": 1, **{name.lower(): i for name, i in index.items()}}
            values = np.array([str(v).lower() for v in values])
        if strangers := [v for v in map(str, values) if v not in index]:
            raise UserError(
                f"{where}: label {strangers[0]!r} is no class: {did_you_mean(strangers[0], names)} "
                "(--classes A,B,C names them, in the order of the columns)"
            )
        return np.array([index[v] for v in map(str, values)], dtype=np.int64)
    whole = whole_numbers(values, where)
    numbers = number_names(names)
    if numbers is None or named is False:
        return whole
    if named is None:
        named = labels_are_names(whole, numbers)
    if named is None and whole.max() < len(names):
        raise UserError(
            f"{where}: labels from {whole.min()} to {whole.max()} can be the names of the classes "
            f"({listed(numbers)}) or their numbers from 0: write them from 0"
        )
    if named is False:
        return whole
    order = np.argsort(numbers)
    ordered = np.asarray(numbers)[order]
    at = np.minimum(np.searchsorted(ordered, whole), len(ordered) - 1)
    if (ordered[at] != whole).any():
        raise UserError(f"{where}: label {whole[ordered[at] != whole][0]} is no class: these are {listed(numbers)}")
    return order[at]


def number_names(names: Sequence[str]) -> list[int] | None:
    """The numbers that class names are, when they are numbers other than 0, 1, 2, ..."""
    if not all(name.isascii() and name.isdecimal() and len(name) < 10 for name in names):
        return None
    numbers = [int(name) for name in names]
    return None if numbers == list(range(len(names))) else numbers


def labels_are_names(labels: Array, numbers: Sequence[int]) -> bool | None:
    """Whether labels are the names `numbers` of classes (True) or count from 0 (False); None: both, or neither."""
    as_names = bool(np.isin(labels, numbers).all())
    return None if as_names == bool((labels < len(numbers)).all()) else as_names


def whole_numbers(values: Array, where: str) -> NDArray[np.int64]:
    """Labels as integers, or a line about the first that is none."""
    if len(values) and (largest := values.max()) >= 2**53:  # more than a number of a text file holds exactly
        raise _too_large(int(largest) if np.isfinite(largest) else largest, f"{len(values):,} rows", where)
    with np.errstate(invalid="ignore"):  # NaN is no whole number, and the next lines say so
        whole = values.astype(np.int64)
    if (wrong := whole != values).any():
        raise UserError(f"{where}: labels are whole numbers, this has {values[wrong][0]:.10g}")
    if len(whole) and whole.min() < 0:
        kinds = np.unique(whole)
        fix = (
            "write 0 and 1"
            if kinds.tolist() == [-1, 1]
            else f"a label of {kinds[0]} (unlabelled?) is no class; leave these rows out of labels and predictions"
        )
        raise UserError(f"{where}: labels from {kinds[0]} to {kinds[-1]}: {fix}")
    return whole


def count_classes(labels: Array, rows: int, where: str, width: int | None = None) -> int:
    """How many classes labels >= 0 have; a line for billions, or where most would have no row and no `width` says so.

    Parameters
    ----------
    width : columns of predictions
    """
    largest, kinds = int(labels.max(initial=-1)), len(np.unique(labels))
    if largest >= MOST_CLASSES:
        raise _too_large(largest, f"{rows:,} rows" + (f" and {width} columns" if width else ""), where)
    if width is None and largest > 2 * kinds:
        raise _too_large(largest, f"only {kinds} different ones in {rows:,} rows", where)
    return largest + 1


def _too_large(largest: object, have: str, where: str) -> UserError:
    bits = next((b for b in (8, 16, 32, 64) if largest == 2**b - 1), None)
    unsigned = f" (-1 as an unsigned number of {bits} bits?)" if bits else ""
    return UserError(
        f"{where}: a label is {largest}{unsigned}, but there are {have}: classes are numbers from 0, or named "
        "(--classes, class_names)"
    )


def check_labels(true: Array, names: tuple[str, ...], where: str, width: int | None, guesses: list[Array]) -> list[str]:
    """Labels that are no classes are an error; classes without a row are said."""
    if not len(true):
        return []
    count, least, most = len(names), int(true.min()), int(true.max())
    if least < 0:
        whole_numbers(true, where)
    if number_names(names) is not None:
        return []
    if most >= count:
        what = f"{width} columns" if width else f"{count} classes"
        fix = f"labels count from 0, or --classes {listed(true)} names the classes" if len(true) == count else ""
        said = f"run from {least} to {most}" if len(true) == most - least + 1 else f"have numbers up to {most}"
        raise UserError(f"{where}: labels {said}, but there are {what}" + (f": {fix}" if fix else ""))
    if least > 0 and any(g.min() == 0 and g.max() < most for g in guesses):
        raise UserError(f"{where}: labels run from {least} to {most}, predictions from 0: let both count from 0")
    if least > 0 and width is None:
        return [f"{where}: no row of class 0, labels run from {least} to {most} (--classes {listed(true)} if from 1)"]
    if width and most + 1 < count:
        return [f"{where}: labels up to {most}, of {count} classes (columns)"]
    return []


def listed(numbers: Sequence[int] | Array) -> str:
    """Numbers as --classes takes them."""
    ordered = sorted(map(int, numbers))
    whole = ordered == [*range(ordered[0], ordered[-1] + 1)] and len(ordered) > 2
    return f"{ordered[0]}-{ordered[-1]}" if whole else ",".join(map(str, ordered[:20])) + ",..." * (len(ordered) > 20)


def labels_hash(labels: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels, dtype="<i8").data).hexdigest()


def is_unfinished(path: Path) -> bool:
    """True for a folder in which nothing but the beginning of a pool is, as a killed `Pool.create` leaves it."""
    ours = {Path("labels")} | {
        Path("labels") / f"{split}{what}.npy" for split in PREDICTED for what in ("", ".choices", ".documents")
    }
    return path.is_dir() and all(
        not file.is_symlink() and (file.relative_to(path) in ours or file.name.endswith(".tmp"))
        for file in path.rglob("*")
    )


def read_labels(path: Path, shape: tuple[int, ...], sha256: str) -> NDArray[Any]:
    """The labels or choices of a split; `UserError` where they are others than the pool was made with."""
    labels = np.asarray(read_array(path))
    if labels.shape != shape or labels_hash(labels) != sha256:
        raise UserError(f"{path}: these are not the labels that the pool was made with")
    return labels


def checked_choices(
    choices: Mapping[str, ArrayLike], labels: Mapping[str, Array], classes: int
) -> dict[str, NDArray[Any]]:
    """Which of the C choices every row has, (N, C) by ``SPLIT.choices``: at least 2, its label too."""
    found = {}
    for split, y in labels.items():
        mask = np.asarray(choices.get(split))
        if mask.dtype != bool or mask.shape != (len(y), classes):
            have = f"{mask.dtype} of shape {mask.shape}" if split in choices else "nothing"
            raise UserError(f"choices of {split}: {have}; truth values of shape ({len(y)}, {classes}) are needed")
        if (few := mask.sum(1) < 2).any():
            raise UserError(f"choices of {split}: row {few.argmax()} has {mask[few][0].sum()}; at least 2 are needed")
        if (outside := ~mask[np.arange(len(y)), y]).any():
            row = int(outside.argmax())
            raise UserError(f"choices of {split}: row {row} does not have its label, {y[row]}")
        found[f"{split}.choices"] = mask
    return found


def checked_labels(
    labels: Mapping[str, ArrayLike], class_names: Sequence[str] | None
) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """Labels of every split as class numbers, and the names of the classes."""
    if missing := [split for split in PREDICTED if split not in labels]:
        raise UserError(f"labels of {missing[0]} are missing: a pool needs labels of {' and '.join(PREDICTED)}")
    arrays = {split: np.asarray(labels[split]) for split in PREDICTED}
    for split, array in arrays.items():
        if array.ndim == 2 and array.shape[1] == 1:
            arrays[split] = array = array[:, 0]
        if array.ndim != 1 or not len(array) or array.dtype.kind not in ("fiubU" if class_names else "fiub"):
            raise UserError(
                f"labels of {split}: {array.dtype} of shape {array.shape}; whole numbers from 0, one a row, are needed "
                "(or with class_names these names)"
            )
        if array.dtype.kind == "U":
            arrays[split] = class_numbers(array, class_names or (), f"labels of {split}")
    numbers = {split: whole_numbers(array, f"labels of {split}") for split, array in arrays.items()}
    split, largest = max(((s, int(a.max())) for s, a in numbers.items()), key=lambda pair: pair[1])
    if class_names is None:
        together = np.concatenate([*numbers.values()])
        count = count_classes(together, len(together), f"labels of {split}")
        class_names = [str(i) for i in range(count)]
    if largest >= len(class_names):
        raise UserError(f"labels of {split}: class {largest}, but there are {len(class_names)} class names")
    return numbers, list(class_names)
