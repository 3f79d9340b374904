"""Per-row scores of several votes on the same rows, and their paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.metrics import bootstrap_means, correct_rows, nll_rows, percentile_interval

Array = NDArray[Any]
LEVEL = 0.95


@dataclass(frozen=True)
class Gain:
    """A paired difference with its 95 % bootstrap interval; positive = better."""

    value: float
    low: float
    high: float

    @property
    def direction(self) -> int:
        """1 or -1 when the interval excludes zero on that side, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


class PairedRows:
    """Per-row scores of many (N, C) votes on the same test rows, with one bootstrap for all of them."""

    def __init__(self, votes: Sequence[Array], labels: Array) -> None:
        self.count = len(votes)
        rows = np.stack([rule(vote, labels) for rule in (correct_rows, nll_rows) for vote in votes])
        self.means = rows.mean(1)
        self.samples = bootstrap_means(rows)  # (resamples, 2 * count)

    def accuracy(self, i: int) -> float:
        return float(self.means[i])

    def nll(self, i: int) -> float:
        return float(self.means[self.count + i])

    def accuracy_interval(self, i: int) -> tuple[float, float]:
        return percentile_interval(self.samples[:, i], LEVEL)

    def accuracy_gain(self, i: int, j: int) -> Gain:
        """Points of accuracy that vote i has over vote j."""
        return self._difference(i, j, 100.0)

    def nll_gain(self, i: int, j: int) -> Gain:
        """Nats of NLL that vote i saves over vote j."""
        return self._difference(self.count + i, self.count + j, -1.0)

    def _difference(self, a: int, b: int, factor: float) -> Gain:
        difference = factor * (self.samples[:, a] - self.samples[:, b])
        return Gain(float(factor * (self.means[a] - self.means[b])), *percentile_interval(difference, LEVEL))
