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
        ``auto``: one column of integers is labels; rows of numbers in [0, 1] that sum to 1 are probabilities; all
        else is logits.
    where : str
        For messages: which file or argument this is.

    Raises
    ------
    UserError
        Wrong shape, labels out of range, rows that are no probabilities. Numbers that are not finite are let through:
        whoever writes the member decides what they mean.
    """
    array = np.asarray(predictions)
    where = where or "predictions"
    if kind not in KINDS:
        raise UserError(f"unknown kind of predictions {kind!r}: {did_you_mean(kind, KINDS)}")
    if array.dtype.kind not in "fiub":
        raise UserError(f"{where}: {array.dtype} is not a type of numbers")
    if array.ndim == 2 and array.shape[1] == 1 and classes > 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or len(array) != rows or (array.ndim == 2 and array.shape[1] != classes):
        raise UserError(
            f"{where}: shape {array.shape} does not fit, ({rows}, {classes}) probabilities or logits or ({rows},) "
            "labels are needed, in the row order of the pool's labels"
        )
    if array.ndim == 1:
        if kind in ("probabilities", "logits"):
            raise UserError(f"{where}: one number a row is no {kind}: {classes} columns are needed")
        return _one_hot(array, classes, where)
    if kind == "labels":
        raise UserError(f"{where}: labels are one number a row, this has {array.shape[1]} columns")
    values = array if array.dtype in (np.float16, np.float32) else array.astype(np.float32)
    finite = np.isfinite(values).all(1)
    sums = values.sum(1, dtype=np.float64)
    impossible = finite & ((values < 0).any(1) | (np.abs(sums - 1) > SUM_TOLERANCE))
    if kind == "probabilities" and impossible.any():
        row = int(np.argmax(impossible))
        raise UserError(
            f"{where}: row {row} has a sum of {sums[row]:.4g} and a lowest value of {values[row].min():.4g}: "
            "probabilities are >= 0 and sum to 1"
        )
    if kind == "probabilities" or (kind == "auto" and finite.any() and not impossible.any()):
        return values
    shifted = values.astype(np.float64) - values.max(1, keepdims=True)
    exponentials = np.exp(shifted)
    probabilities: Array = (exponentials / exponentials.sum(1, keepdims=True)).astype(values.dtype)
    return probabilities


def _one_hot(labels: Array, classes: int, where: str) -> Array:
    whole = labels.astype(np.int64)
    if (whole != labels).any():
        raise UserError(f"{where}: labels are whole numbers, this has {labels[whole != labels][0]}")
    if len(whole) and not (whole.min() >= 0 and whole.max() < classes):
        raise UserError(
            f"{where}: labels from {whole.min()} to {whole.max()}, but the pool has classes 0 to {classes - 1}"
        )
    return np.eye(classes, dtype=np.float32)[whole]
