"""Labels of rows, and whether those of three splits fit the classes: the one definition, for every task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError

Labels = NDArray[np.int64]
FEW = 5


def few(names: Iterable[object]) -> str:
    """The first names and a count of the others, for a message."""
    shown = [str(name) for name in names]
    return ", ".join(shown[:FEW]) + (f" and {len(shown) - FEW} more" if len(shown) > FEW else "")


def in_order(text: str) -> tuple[float, str]:
    """A key that sorts numbers by their size, and other texts behind them."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def checked_labels(labels: NDArray[Any], where: str) -> Labels:
    """Labels (N,) from whole numbers (N,) or, as MedMNIST has them, (N, 1)."""
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        one_hot = labels.ndim == 2 and labels.dtype.kind in "iubf"
        whole = labels.ndim == 1 and labels.dtype.kind == "f" and bool((labels % 1 == 0).all())
        fix = ": labels.argmax(1) of one-hot ones" if one_hot else ": labels.astype('int64')" if whole else ""
        if labels.ndim == 1 and labels.dtype.kind == "f" and not whole:
            fix = ": numbers to be predicted (regression) are no classes"
        raise UserError(
            f"{where}: labels must be one whole number a row, not {labels.dtype} of shape {labels.shape}{fix}"
        )
    if len(labels) and int(labels.max()) > np.iinfo(np.int64).max:
        raise UserError(f"{where}: a label is {labels.max()}: labels must be 0, 1, 2, ...")
    return labels.astype(np.int64)


def numbered_classes(train: Labels) -> tuple[str, ...]:
    """Numbers as names of classes, for rows that come without names."""
    highest = int(train.max(initial=0))
    if highest >= len(train) > 0:
        raise UserError(
            f"a train label is {highest}, but there are only {len(train)} rows: labels must be 0, 1, 2, ..."
        )
    return tuple(str(i) for i in range(highest + 1))


def check_classes(splits: Mapping[str, Labels], class_names: Sequence[str], where: str = "") -> None:
    """Raise `UserError` for fewer than two classes, a split without rows, labels outside the classes (all splits), and
    classes of another split that the model cannot learn: train has no row of them.
    """
    for name, labels in splits.items():
        if not len(labels):
            raise UserError(f"{where}{name} has no rows")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(class_names):
            raise UserError(
                f"{where}{name} labels run from {low} to {high}, but there are {len(class_names)} classes, "
                f"0 to {len(class_names) - 1}"
            )
    if len(class_names) < 2:
        raise UserError(f"{where}a task needs at least 2 classes, the train split has {len(class_names)}")
    trained = set(splits["train"].tolist())
    for name, labels in splits.items():
        if unknown := sorted(set(labels.tolist()) - trained):
            raise UserError(
                f"{where}{name} has rows of class {few(class_names[i] for i in unknown)}, but train has none: they "
                f"cannot be learnt; leave them out of {name}, or add some to train"
            )


def lacking_classes(splits: Mapping[str, Labels], class_names: Sequence[str]) -> list[str]:
    """What to say of classes without rows: in train, and those of train in the other splits."""
    trained = set(splits["train"].tolist())
    notes = []
    for name, labels in splits.items():
        wanted = set(range(len(class_names))) if name == "train" else trained
        if lacking := sorted(wanted - set(labels.tolist())):
            rest = f", but {len(class_names)} are assumed" if name == "train" else ""
            notes.append(f"no {name} row is of class {few(class_names[i] for i in lacking)}{rest}")
    return notes
