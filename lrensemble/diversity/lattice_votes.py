"""Votes of all teams, a block of 2^b at a time: in NumPy here, or compiled (`compiled`), with equal results.

The subset sums of a row's margins over the first b members are made once; for a block, whose other members are fixed,
"sum > 0" is then one comparison with a constant a team, and bounds decide many rows for the whole block at once.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.diversity.lattice import subset_sums
from lrensemble.diversity.margins import Margins
from lrensemble.metrics.scores import TINY

# Measured: 2,048 teams a block are best for the compiled loops; NumPy needs longer arrays, or its calls cost more than
# their work.
COMPILED_BITS, NUMPY_BITS = 11, 14


@functools.cache
def kernels() -> Any:
    """Return the module with the compiled loops, or None where numba is not installed. Importing takes a second."""
    try:
        from lrensemble.diversity import compiled
    except ImportError:
        return None
    return compiled


def count_right(margins: Margins, members: int, first: int, teams: int, *, fast: bool, threads: int) -> Array:
    """Rows on which each of the teams ``first .. first + teams - 1`` (bit masks) is right: (teams,) int64.

    `teams` is a power of two that divides `first`.
    """
    counts = np.full(teams, margins.always, dtype=np.int32)
    loop = kernels().right if fast else _right
    arrays = margins.values, margins.strict, margins.starts, margins.times
    _spread(lambda bits, high, part: loop(*arrays, bits, high, part), counts, members, first, fast, threads)
    return counts.astype(np.int64)


def mean_nll(true: Array, first: int, teams: int, *, fast: bool, threads: int) -> Array:
    """Mean negative log-likelihood in nats of the soft votes of these teams: (teams,); NaN for the empty team 0.

    `true` is (N, M) float64, the probability of the true class. As `metrics.nll_of`, clipped to [eps, 1].
    """
    rows, members = true.shape
    safe = (true.min(1) >= TINY) & (true.max(1) <= 1.0)  # of these rows no mean can need clipping
    logs = np.empty(teams)
    loop = kernels().log_likelihood if fast else _log_likelihood
    _spread(lambda bits, high, part: loop(true, safe, TINY, bits, high, part), logs, members, first, fast, threads)
    sizes = np.bitwise_count(np.arange(first, first + teams)).astype(np.float64)
    sizes[sizes == 0] = np.nan
    # No clipped probability is above 1; rounding alone could make the mean of perfect rows negative.
    return np.asarray(np.maximum(np.log(sizes) - logs / rows, 0.0))


def _spread(
    loop: Callable[[int, int, Array], Any], out: Array, members: int, first: int, fast: bool, threads: int
) -> None:
    """Run `loop(bits, first high part, (blocks, 2^bits) part of out)` over all blocks, on several threads."""
    bits = min(COMPILED_BITS if fast else NUMPY_BITS, members, len(out).bit_length() - 1)
    blocks = out.reshape(-1, 1 << bits)
    bounds = np.linspace(0, len(blocks), min(threads, len(blocks)) + 1).astype(int)
    parts = [(bits, (first >> bits) + int(a), blocks[a:b]) for a, b in itertools.pairwise(bounds)]
    if len(parts) == 1:
        loop(*parts[0])
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: loop(*part), parts))


def _high_sums(values: Array, bits: int, high: int, blocks: int) -> Array:
    """Sums over the fixed members of `blocks` blocks: (K, blocks) from (K, M), added in the order of the members."""
    sums = np.zeros((len(values), blocks))
    h = np.arange(high, high + blocks)
    for m in range(bits, values.shape[1]):
        sums += np.where(h >> (m - bits) & 1, values[:, m, None], 0.0)
    return sums


def _last_sum(values: Array) -> Array:
    """Sum along the last axis, added one after the other (`sum` adds in pairs and rounds differently)."""
    return np.asarray(values.cumsum(1)[:, -1])


def _right(values: Array, strict: Array, starts: Array, times: Array, bits: int, high: int, counts: Array) -> None:
    for r, weight in enumerate(times.astype(np.int32)):
        of_row = slice(starts[r], starts[r + 1])
        low = [subset_sums(v) for v in values[of_row, :bits]]
        over = -_high_sums(values[of_row], bits, high, len(counts))
        # s >= c as s > the number before it
        over = np.where(strict[of_row, None], over, np.nextafter(over, -np.inf))
        # Extremes of the subset sums: exactly those of `low`, as rounding is monotone.
        lost = (_last_sum(np.maximum(values[of_row, :bits], 0.0))[:, None] <= over).any(0)
        binds = _last_sum(np.minimum(values[of_row, :bits], 0.0))[:, None] <= over
        for h in np.flatnonzero(~lost):
            holds: Any = True
            for q in np.flatnonzero(binds[:, h]):
                holds = holds & (low[q] > over[q, h])
            counts[h] += weight * holds


def _log_likelihood(true: Array, safe: Array, tiny: float, bits: int, high: int, out: Array) -> None:
    sizes = subset_sums(np.ones(bits)) + np.bitwise_count(np.arange(high, high + len(out)))[:, None]
    out[:] = 1.0
    exponents = np.zeros(out.shape, dtype=np.int64)
    for r, row in enumerate(true):
        low = subset_sums(row[:bits])
        for h, offset in enumerate(_high_sums(row[None], bits, high, len(out))[0]):
            vote = low + offset
            out[h] *= vote if safe[r] else np.clip(vote, tiny * sizes[h], sizes[h])
        if r % 12 == 11 or r == len(true) - 1:  # before the product can leave the range of float64
            mantissa, exponent = np.frexp(out)
            out[:] = mantissa
            exponents += exponent
    with np.errstate(divide="ignore"):  # the empty team
        out[:] = np.log(out) + exponents * np.log(2.0)
