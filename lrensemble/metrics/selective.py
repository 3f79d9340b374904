"""What a prediction gets wrong where it may leave rows to somebody else."""

from __future__ import annotations

import numpy as np

from lrensemble.array import Array
from lrensemble.metrics.scores import correct_rows


def risk_coverage(probabilities: Array, labels: Array) -> tuple[Array, Array]:
    """Error among the k rows that one (N, C) prediction is surest of, for every k (Geifman and El-Yaniv 2017).

    Rows of the same confidence have no order: they count with the error that all of them have. Two (N,) arrays:
    coverage, the share k / N, and risk, the share of the k rows that is wrong. The mean of the risk is the area under
    the curve (AURC).
    """
    wrong = 1.0 - correct_rows(probabilities, labels)
    _, group = np.unique(-np.asarray(probabilities).max(-1), return_inverse=True)
    of_group = np.bincount(group, wrong) / np.bincount(group)
    k = np.arange(1, len(wrong) + 1)
    return k / len(wrong), np.cumsum(of_group[np.sort(group)]) / k
