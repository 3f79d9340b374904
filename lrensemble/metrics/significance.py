"""Two classifiers on the same rows, and intervals of shares: exact where the bootstrap is not good enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrensemble.array import Array


class McNemar(NamedTuple):
    """McNemar's test of two classifiers on the same rows."""

    only_first: int  # rows that the first alone gets right
    only_second: int
    exact: float  # two-sided p value, binomial and conditional on the rows that differ
    mid_p: float  # the same less half of what ties: less conservative, hardly ever above its level


def mcnemar(first: Array, second: Array) -> McNemar:
    """From (N,) arrays that say which rows the two get right (McNemar 1947; mid-p: Fagerland et al. 2013).

    Both p values are 1 when no row differs.
    """
    from scipy.stats import binom

    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    fewer, n = min(wins, losses), wins + losses
    both = 2 * float(binom.cdf(fewer, n, 0.5))
    return McNemar(wins, losses, min(1.0, both), min(1.0, both - float(binom.pmf(fewer, n, 0.5))) if n else 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values of several tests, adjusted so that all of them together keep their level (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


def standard_error(share: float, rows: int) -> float:
    """Binomial standard error of the share `share` of `rows` rows, e.g. an accuracy."""
    return math.sqrt(share * (1 - share) / rows)


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean; None for fewer than two values."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    mean, half = np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))
    half *= t.ppf((1 + level) / 2, len(values) - 1)
    return float(mean - half), float(mean + half)


def share_interval(right: int, rows: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) of the share `right` / `rows`, by SciPy.

    Unlike a bootstrap interval it is not of width 0 when all rows are right.
    """
    from scipy.stats import binomtest

    low, high = binomtest(right, rows).proportion_ci(level, method="wilson")
    return float(low), float(high)


def paired_interval(only_first: int, only_second: int, rows: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the difference of two accuracies on the same rows (Bonett & Price 2012, adjusted Wald).

    For few rows that differ, where a bootstrap interval is too narrow, and of width 0 when none does.
    """
    from scipy.stats import norm

    n = rows + 2
    first, second = (only_first + 1) / n, (only_second + 1) / n
    difference = first - second
    margin = float(norm.ppf((1 + level) / 2)) * ((first + second - difference**2) / n) ** 0.5
    return max(-1.0, difference - margin), min(1.0, difference + margin)
