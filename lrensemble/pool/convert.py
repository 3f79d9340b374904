"""Predictions of any framework as probabilities: from probabilities, logits or hard labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrensemble.errors import UserError, did_you_mean

KINDS = ("auto", "probabilities", "logits", "labels")
SUM_TOLERANCE = 1e-2  # of a row of probabilities in float16
Array = NDArray[Any]


def as_probabilities(predictions: ArrayLike, rows: int, classes: int, kind: str = "auto", where: str = "") -> Array:
    """Bring predictions to (N, C) probabilities, float32 (float16 stays).

    Parameters
    ----------
    predictions : (N, C) probabilities or logits, or (N,) labels
    rows, classes : int
        N and C, what the pool needs.
    kind : {"auto", "probabilities", "logits", "labels"}
        ``auto`` is what `find_kind` finds.
    where : str
        For messages: which file or argument this is.

    Raises
    ------
    UserError
        Wrong shape, labels out of range, rows that are no probabilities. Numbers that are not finite are let through:
        whoever writes the member decides what they mean.
    """
    where = where or "predictions"
    array = _as_array(predictions, where)
    if array.ndim == 2 and array.shape[1] == 1 and classes > 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or len(array) != rows or (array.ndim == 2 and array.shape[1] != classes):
        raise UserError(
            f"{where}: shape {array.shape} does not fit, ({rows}, {classes}) probabilities or logits or ({rows},) "
            "labels are needed, in the row order of the pool's labels"
        )
    kind = find_kind(array, kind, where)
    if kind == "labels":
        return _one_hot(array, classes, where)
    values = array if kind == "probabilities" else _softmax(array)
    return values.astype(np.float16 if array.dtype == np.float16 else np.float32, copy=False)


def find_kind(predictions: ArrayLike, kind: str = "auto", where: str = "predictions") -> str:
    """Return what (N, C) or (N,) numbers are: ``kind``, checked, or what they look like when that is ``auto``.

    One number a row is a label. Rows that are >= 0 and sum to 1 are probabilities; anything else is logits, except
    rows within [0, 1] that do not sum to 1 (rounded probabilities? sigmoids?): taking those for logits would flatten
    them in silence.
    """
    if kind not in KINDS:
        raise UserError(f"unknown kind of predictions {kind!r}: {did_you_mean(kind, KINDS)}")
    array = _as_array(predictions, where)
    if array.ndim == 1:
        if kind in ("probabilities", "logits"):
            raise UserError(
                f"{where}: one number a row is no {kind}: one column for each class is needed "
                "(of two classes: 1 - p and p)"
            )
        return "labels"
    if kind == "labels":
        raise UserError(f"{where}: labels are one number a row, this has {array.shape[1]} columns")
    if kind == "logits":
        return kind
    finite = np.isfinite(array).all(1)
    with np.errstate(invalid="ignore", over="ignore"):  # rows that are not finite, and logits in float16
        sums = array.sum(1, dtype=np.float64)
        impossible = finite & ((array < 0).any(1) | (np.abs(sums - 1) > SUM_TOLERANCE))
    if not impossible.any():
        return "probabilities" if kind == "probabilities" or finite.any() else "logits"
    row = int(np.argmax(impossible))
    found = f"{where}: row {row} has a sum of {sums[row]:.4g} and a lowest value of {float(array[row].min()):.4g}"
    if kind == "probabilities":
        raise UserError(f"{found}: probabilities are >= 0 and sum to 1")
    if (array[finite] >= 0).all() and (array[finite] <= 1).all():
        raise UserError(
            f"{found}, all within [0, 1]: say kind 'logits', or let every row of probabilities sum to 1 "
            "(rounded ones: divide by their sum)"
        )
    return "logits"


def _as_array(predictions: ArrayLike, where: str) -> Array:
    try:
        array = np.asarray(predictions)
    except (ValueError, TypeError) as error:  # rows of different lengths, a tensor on another device
        raise UserError(f"{where}: no array of numbers ({str(error).splitlines()[0]})") from None
    if array.dtype.kind not in "fiub":
        raise UserError(f"{where}: {array.dtype} is not a type of numbers")
    return array


def _softmax(logits: Array) -> Array:
    with np.errstate(invalid="ignore"):  # rows of NaN or infinity become NaN, which is for the caller to judge
        wide = logits.astype(np.float64)
        exponentials = np.exp(wide - wide.max(1, keepdims=True))
        probabilities: Array = exponentials / exponentials.sum(1, keepdims=True)
    return probabilities


def _one_hot(labels: Array, classes: int, where: str) -> Array:
    with np.errstate(invalid="ignore"):  # NaN is no whole number, and the next line says so
        whole = labels.astype(np.int64)
    if (whole != labels).any():
        raise UserError(f"{where}: labels are whole numbers, this has {labels[whole != labels][0]}")
    if len(whole) and not (whole.min() >= 0 and whole.max() < classes):
        raise UserError(
            f"{where}: labels from {whole.min()} to {whole.max()}, but the pool has classes 0 to {classes - 1}"
        )
    return np.eye(classes, dtype=np.float32)[whole]
