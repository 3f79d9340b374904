"""Two classifiers on the same rows, and intervals: of shares exact ones, of other means over rows by the bootstrap.

The bootstrap has many statistics on the same resamples, so that differences are paired."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrensemble.array import Array

CHUNK = 4_000_000  # counts of a bootstrap at a time: 32 MB


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


def bootstrap_means(rows: Array, *, resamples: int = 2000, seed: int = 0) -> Array:
    """Means of `rows` (K, N) over `resamples` bootstrap samples of the N columns: (resamples, K).

    All K statistics see the same resampled columns: the difference of two of them is the paired bootstrap
    (Efron & Tibshirani 1993). A resample is a vector of counts, so the means are one matrix product.
    """
    rows = np.asarray(rows, dtype=np.float64)
    n = rows.shape[1]
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, len(rows)))
    chunk = max(1, CHUNK // n)
    for start in range(0, resamples, chunk):
        stop = min(start + chunk, resamples)
        counts = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(start, stop)])
        means[start:stop] = counts.astype(np.float64) @ rows.T / n
    return means


def percentile_interval(samples: Array, level: float = 0.95) -> tuple[float, float]:
    """Central interval of bootstrap `samples` that holds the share `level` of them."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
