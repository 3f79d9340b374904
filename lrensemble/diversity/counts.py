"""What every metric is computed from: integer counts over rows, as matrices over pairs of members.

With c the members' correctness and e = 1 - c (both M x N): N11 = c c', N00 = e e', disagreement = N10 + N01. For the
metrics of predicted classes: agreement A[i, j] = rows on which i and j say the same, and B = n n' of the class counts
n (M x C). All are integers below 2^53, so float64 holds them exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lrensemble.array import Array
from lrensemble.errors import UserError

_ROWS = 1 << 16  # rows at a time: bounds the intermediate arrays; float32 counts them exactly (below 2^24)


@dataclass(frozen=True)
class Counts:
    """Counts of M members over N rows; every matrix is (M, M) float64, symmetric and integer.

    Attributes
    ----------
    rows : int
        N.
    errors : (M,) array
        Rows that a member gets wrong.
    both_wrong, disagree, agree, classes : (M, M) arrays
        N00; N10 + N01; rows with equal predictions; inner products of the class counts.
    """

    rows: int
    errors: Array
    both_wrong: Array
    disagree: Array
    agree: Array
    classes: Array


def predicted_labels(predictions: Any) -> Array:
    """Predicted classes (M, N) from probabilities (M, N, C), or unchanged from predicted classes (M, N).

    Ties of the arg max go to the lower class. Torch tensors, on any device, are accepted: only classes leave it.
    """
    if hasattr(predictions, "detach"):
        predictions = predictions.detach()
        if predictions.ndim == 3:
            predictions = predictions.argmax(-1)
        predictions = predictions.cpu().numpy()
    if not isinstance(predictions, np.ndarray) and len(getattr(predictions, "shape", ())) == 3:
        # One member at a time: what lies on disk is read once and not kept.
        return np.stack([np.asarray(p).argmax(-1) for p in predictions])
    predictions = np.asarray(predictions)
    if predictions.ndim == 3:
        predictions = predictions.argmax(-1)
    elif predictions.ndim == 2 and predictions.dtype.kind == "f":
        raise UserError(
            f"predictions of shape {predictions.shape} and type {predictions.dtype} are no predicted classes: "
            "give probabilities (members, rows, classes) or integers (members, rows)"
        )
    if predictions.ndim != 2:
        raise UserError(f"predictions must be (members, rows, classes) or (members, rows), not {predictions.shape}")
    if len(predictions) == 0:
        raise UserError("there are no members to compare")
    return np.asarray(predictions)


def checked(predictions: Any, labels: ArrayLike) -> tuple[Array, Array]:
    """Predicted classes (M, N) and labels (N,) as small non-negative integers; `UserError` where they do not fit."""
    predicted = predicted_labels(predictions)
    y = np.asarray(labels.cpu() if hasattr(labels, "cpu") else labels)
    if y.shape != predicted.shape[1:]:
        raise UserError(f"{predicted.shape[1]} rows of predictions, but labels of shape {y.shape}: they must match")
    if predicted.size and not (_is_small(predicted) and _is_small(y)):
        # Any other names of classes (negative, huge, strings) become their ranks.
        _, ranks = np.unique(np.concatenate([predicted.ravel(), y]), return_inverse=True)
        predicted, y = ranks[: predicted.size].reshape(predicted.shape), ranks[predicted.size :]
    return predicted, y


def _is_small(labels: Array) -> bool:
    return labels.dtype.kind in "iu" and int(labels.min()) >= 0 and int(labels.max()) < 1 << 16


def count(predicted: Array, labels: Array) -> Counts:
    """Count over all rows: `predicted` (M, N) and `labels` (N,) as `checked` gives them. O(M^2 N)."""
    members, rows = predicted.shape
    kinds = int(max(predicted.max(), labels.max())) + 1 if rows else 1
    predicted = predicted.astype(np.min_scalar_type(kinds), copy=False)
    both_wrong, agree = np.zeros((members, members)), np.zeros((members, members))
    per_class = np.zeros((members, kinds))
    for start in range(0, rows, _ROWS):
        part = predicted[:, start : start + _ROWS]
        wrong = (part != labels[start : start + _ROWS]).astype(np.float32)
        both_wrong += wrong @ wrong.T
        for i in range(members):
            agree[i, i:] += (part[i:] == part[i]).sum(-1)
            per_class[i] += np.bincount(part[i], minlength=kinds)
    agree = np.triu(agree) + np.triu(agree, 1).T
    errors = both_wrong.diagonal().copy()
    disagree = errors[:, None] + errors - 2 * both_wrong
    return Counts(rows, errors, both_wrong, disagree, agree, per_class @ per_class.T)


def error_patterns(predicted: Array, labels: Array) -> tuple[Array, Array]:
    """Which members fail together: the distinct columns of the error matrix (M, U) as bool, and how often (U,).

    All that the entropy and coincident failure of any team need to know about the rows; U is often far below N.
    """
    packed = np.packbits(predicted != labels, axis=0)
    patterns, times = np.unique(packed, axis=1, return_counts=True)
    wrong = np.unpackbits(patterns, axis=0, count=len(predicted)).astype(bool)
    return wrong, times
