"""Per-row scores of several votes on the same rows, and their paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np

from lrensemble.array import Array
from lrensemble.evaluation.measured import Measured, Measures
from lrensemble.evaluation.results import LEVEL, Gain
from lrensemble.metrics import (
    bootstrap_means,
    correct_rows,
    mcnemar,
    nll_rows,
    paired_interval,
    percentile_interval,
    share_interval,
)

FEW = 20  # rows that differ: with fewer, bootstrap intervals cover too little (docs/evaluation.md has numbers)


class RowScores(NamedTuple):
    """One vote on the test rows, or the mean over several."""

    correct: Array  # (N,) 1.0 or 0.0; shares for a mean
    nll: Array  # (N,) nats; NaN where labels take part, which have none
    metrics: Mapping[str, Measured] = {}

    @classmethod
    def of(cls, vote: Array, labels: Array, hard: bool = False, measures: Measures | None = None) -> Self:
        """Of the vote (N, C); `hard`: members that give labels take part."""
        measured = measures.of(vote, labels, hard) if measures else {}
        return cls(correct_rows(vote, labels), nll_rows(vote, labels), measured).hardened(hard)

    def hardened(self, hard: bool) -> Self:
        """Without the NLL where labels take part."""
        return self._replace(nll=np.full_like(self.nll, np.nan)) if hard else self

    def equals(self, other: RowScores) -> bool:
        """Whether it is the same vote under another name."""
        return np.array_equal(self.correct, other.correct) and np.allclose(self.nll, other.nll, 1e-5, equal_nan=True)

    @property
    def is_vote(self) -> bool:
        """Whether every row is right or wrong."""
        return bool(np.isin(self.correct, (0.0, 1.0)).all())


class PairedRows:
    """Scores of many votes on the same test rows, with one bootstrap for all of them."""

    def __init__(self, votes: Sequence[RowScores]) -> None:
        self.votes = votes
        rows = np.stack([*(vote.correct for vote in votes), *(vote.nll for vote in votes)])
        self.count, self.n = len(votes), rows.shape[1]
        self.means = rows.mean(1)
        self.samples = bootstrap_means(rows)  # (resamples, 2 * count)

    def accuracy(self, i: int) -> float:
        return float(self.means[i])

    def nll(self, i: int) -> float | None:
        """None where labels take part."""
        return None if np.isnan(self.means[self.count + i]) else float(self.means[self.count + i])

    def accuracy_interval(self, i: int) -> tuple[float, float]:
        """Wilson's: a bootstrap interval near 100 % is too narrow, and of width 0 at 100 %."""
        return share_interval(int(self.votes[i].correct.sum()), self.n, LEVEL)

    def accuracy_gain(self, i: int, j: int) -> Gain:
        """Points of accuracy that vote i has over vote j: paired bootstrap, and McNemar's test.

        Where fewer than `FEW` rows tell two votes apart: Bonett and Price's interval.
        """
        gain = self._difference(i, j, 100.0)
        first, second = self.votes[i], self.votes[j]
        if not (first.is_vote and second.is_vote):
            return gain
        test = mcnemar(first.correct, second.correct)
        low, high = gain.low, gain.high
        if test.only_first + test.only_second < FEW:
            low, high = (100 * x for x in paired_interval(test.only_first, test.only_second, self.n, LEVEL))
        return Gain(gain.value, low, high, test.mid_p)

    def nll_gain(self, i: int, j: int) -> Gain | None:
        """Nats of NLL that vote i saves over vote j; None where labels take part in one of them."""
        if self.nll(i) is None or self.nll(j) is None:
            return None
        return self._difference(self.count + i, self.count + j, -1.0)

    def _difference(self, a: int, b: int, factor: float) -> Gain:
        difference = factor * (self.samples[:, a] - self.samples[:, b])
        return Gain(float(factor * (self.means[a] - self.means[b])), *percentile_interval(difference, LEVEL))
