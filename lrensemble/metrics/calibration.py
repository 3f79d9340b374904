"""Does a confidence of 80 % mean right in 80 % of the cases? Bins of a reliability diagram, and errors made of them.

And what a prediction gets wrong where it may leave the rows that it is least sure of to somebody else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lrensemble.array import Array
from lrensemble.metrics.scores import correct_rows

BINS = 15


class Reliability(NamedTuple):
    """Bins of the confidence in the most probable class, lowest first; empty bins are left out."""

    counts: Array  # (B,) rows
    confidence: Array  # (B,) their mean confidence
    accuracy: Array  # (B,) the share of them that is right

    @property
    def error(self) -> float:
        """Mean gap between confidence and accuracy over all rows."""
        return float(self.counts @ np.abs(self.accuracy - self.confidence) / self.counts.sum())


def reliability(probabilities: Array, labels: Array, bins: int = BINS, *, equal_mass: bool = False) -> Reliability:
    """Bins of a reliability diagram of one (N, C) prediction (DeGroot & Fienberg 1983; Guo et al. 2017).

    Bins have equal widths, ((i/bins, (i+1)/bins]), or (`equal_mass`) as equal numbers of rows as equal confidences
    allow: these always share a bin, so that the order of the rows does not matter.
    """
    confidence = np.asarray(probabilities.max(-1), dtype=np.float64)
    correct = correct_rows(probabilities, labels)
    if equal_mass:
        n = len(confidence)
        last = np.ceil(np.arange(1, bins) * n / bins).astype(int) - 1  # of every bin but the last, in sorted order
        index = np.searchsorted(np.sort(confidence)[np.clip(last, 0, None)], confidence, side="left")
    else:
        index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    full = counts > 0
    sums = [np.bincount(index, weights=values, minlength=bins)[full] for values in (confidence, correct)]
    return Reliability(counts[full], *(values / counts[full] for values in sums))


def expected_calibration_error(probabilities: Array, labels: Array, bins: int = BINS) -> float:
    """ECE of the top class over equal-width bins; Guo et al. 2017. (N, C) only."""
    return reliability(probabilities, labels, bins).error


def adaptive_calibration_error(probabilities: Array, labels: Array, bins: int = BINS) -> float:
    """ECE of the top class over bins of equal mass (Nguyen & O'Connor 2015; Mukhoti et al. 2020). (N, C) only.

    Equal widths put nearly all rows of a confident network in the last bin, where over- and underconfidence cancel.
    """
    return reliability(probabilities, labels, bins, equal_mass=True).error


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
