"""Bootstrap intervals of means over rows, many statistics on the same resamples (so that differences are paired)."""

from __future__ import annotations

import numpy as np

from lrensemble.array import Array

CHUNK = 4_000_000  # counts at a time: 32 MB


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
