"""Scores of class probabilities against labels: one number a row, so that means, intervals and pairs come for free.

Throughout: `probabilities` is (..., N, C) with rows that sum to 1, `labels` is (N,) of integers in [0, C).
Ties of the arg max go to the lower class, as in NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# Probabilities below this count as this, as in scikit-learn's log_loss on float64.
TINY = float(np.finfo(np.float64).eps)


def true_class(probabilities: Array, labels: Array) -> Array:
    """Probability given to the true class: (..., N)."""
    picked: Array = probabilities[..., np.arange(len(labels)), labels]
    return picked


def correct_rows(probabilities: Array, labels: Array) -> Array:
    """1.0 where the most probable class is the label, else 0.0: (..., N)."""
    right: Array = probabilities.argmax(-1) == labels
    return right.astype(np.float64)


def nll_of(true_probability: Array) -> Array:
    """Negative log-likelihood in nats of the probability of the true class, element by element."""
    return -np.log(np.clip(np.asarray(true_probability, dtype=np.float64), TINY, 1.0))


def nll_rows(probabilities: Array, labels: Array) -> Array:
    """Negative log-likelihood in nats (cross entropy): (..., N)."""
    return nll_of(true_class(probabilities, labels))


def brier_rows(probabilities: Array, labels: Array) -> Array:
    """Brier score in its multi-class form, sum over classes of (p - one-hot)^2, in [0, 2]: (..., N)."""
    square = (np.asarray(probabilities, dtype=np.float64) ** 2).sum(-1)
    return np.asarray(square - 2 * np.asarray(true_class(probabilities, labels), dtype=np.float64) + 1)


def expected_calibration_error(probabilities: Array, labels: Array, bins: int = 15) -> float:
    """ECE of the top class over equal-width bins ((i/bins, (i+1)/bins]); Guo et al. 2017. (N, C) only."""
    confidence = np.asarray(probabilities.max(-1), dtype=np.float64)
    correct = correct_rows(probabilities, labels)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def summary(probabilities: Array, labels: Array) -> dict[str, float]:
    """Accuracy, NLL, Brier score and ECE of one (N, C) prediction."""
    return {
        "accuracy": float(correct_rows(probabilities, labels).mean()),
        "nll": float(nll_rows(probabilities, labels).mean()),
        "brier": float(brier_rows(probabilities, labels).mean()),
        "ece": expected_calibration_error(probabilities, labels),
    }
