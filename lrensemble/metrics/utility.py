"""LRBench's utility metrics beyond the accuracy, and everything of one prediction in one dictionary."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.metrics.calibration import adaptive_calibration_error, expected_calibration_error
from lrensemble.metrics.scores import brier_rows, correct_rows, nll_rows, top_k_rows

TOP = 5


class Confidence(NamedTuple):
    """Of the correctly classified rows (Wu et al. 2019); None where there is none."""

    ac: float | None  # average confidence: mean of the maximum probability
    cv: float | None  # confidence variance: standard deviation (ddof 0) of the same
    cvac: float | None  # across classes: standard deviation (ddof 0) of the classes' means, classes with none skipped


def confidence(probabilities: Array, labels: Array) -> Confidence:
    """AC, CV and CVAC of one (N, C) prediction."""
    right = probabilities.argmax(-1) == labels
    if not right.any():
        return Confidence(None, None, None)
    top = np.asarray(probabilities.max(-1)[right], dtype=np.float64)
    counts = np.bincount(labels[right])
    means = np.bincount(labels[right], weights=top)[counts > 0] / counts[counts > 0]
    return Confidence(float(top.mean()), float(top.std()), float(means.std()))


def summary(probabilities: Array, labels: Array) -> dict[str, float]:
    """Accuracy, NLL, Brier score and ECE of one (N, C) prediction."""
    return {
        "accuracy": float(correct_rows(probabilities, labels).mean()),
        "nll": float(nll_rows(probabilities, labels).mean()),
        "brier": float(brier_rows(probabilities, labels).mean()),
        "ece": expected_calibration_error(probabilities, labels),
    }


def utility(probabilities: Array, labels: Array) -> dict[str, float | None]:
    """`summary`, and top-5 accuracy, adaptive ECE, AC, CV and CVAC of one (N, C) prediction.

    ``top5_accuracy`` is None with 5 classes or fewer, where it would always be 1.

    Raises
    ------
    UserError
        Probabilities that are not finite.
    """
    check_finite(probabilities, "the predictions")
    top5 = float(top_k_rows(probabilities, labels, TOP).mean()) if probabilities.shape[-1] > TOP else None
    return {
        **summary(probabilities, labels),
        "top5_accuracy": top5,
        "adaptive_ece": adaptive_calibration_error(probabilities, labels),
        **confidence(probabilities, labels)._asdict(),
    }


def check_finite(probabilities: Array, what: str, fix: str = "") -> None:
    """Raise a `UserError` that names `what` and the first row with NaN or infinity; `probabilities` is (N, C)."""
    finite = np.asarray(np.isfinite(probabilities).all(-1))
    if not finite.all():
        row = int(np.argmin(finite))
        raise UserError(f"{what} are not finite: row {row} of {finite.size:,} holds NaN or infinity{fix}")
