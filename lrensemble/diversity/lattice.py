"""Sums for all teams at once, by doubling: the sums of the 2^m teams of m members give those of the next 2^m.

A block holds the 2^b teams whose members from b on are fixed ("high"), in ascending order of their masks. So memory is
bounded for any M, and a sum over a team of M members costs one addition.
"""

from __future__ import annotations

import numpy as np

from lrensemble.array import Array
from lrensemble.diversity.teams import members_of

BLOCK_BITS = 12  # 4,096 teams: an array of float64 is 32 KiB, and the histogram of 25 failures 400 KiB, in cache


def subset_sums(values: Array) -> Array:
    """Sum of `values` (b,) over every subset: (2^b,), subset t at index t. Added in the order of the members."""
    sums = np.zeros(1 << len(values))
    for m, value in enumerate(values):
        np.add(sums[: 1 << m], value, out=sums[1 << m : 2 << m])
    return sums


def subset_pair_sums(matrix: Array) -> Array:
    """Sum of a symmetric (b, b) matrix over the pairs of every subset: (2^b,). NaN only where a pair's entry is."""
    sums = np.zeros(1 << len(matrix))
    for m in range(len(matrix)):
        np.add(sums[: 1 << m], subset_sums(matrix[m, :m]), out=sums[1 << m : 2 << m])
    return sums


def failure_histogram(patterns: Array, times: Array, bits: int, members: int, high: int) -> Array:
    """Rows on which exactly i members fail, for i = 0..M and every team of a block: (M + 1, 2^b) int64.

    Parameters
    ----------
    patterns, times : (U,) arrays of int
        Distinct error patterns as bit masks over the members, and the rows that have them.
    bits, members, high : int
        b; M; the fixed members of the block, shifted down by b.

    Notes
    -----
    Starts with the rows sorted by pattern, and turns one bit after the other from "member m fails" into "member m is in
    the team": without the member the two halves add up, with it the failing half moves up by one failure. O(U + b 2^b
    M) integer additions, whatever N.
    """
    size = 1 << bits
    fails = np.bitwise_count((patterns >> bits) & high).astype(np.int64)
    flat = np.bincount(fails * size + (patterns & (size - 1)), weights=times, minlength=(members + 1) * size)
    hist = flat.astype(np.int32 if times.sum() < 2**31 else np.int64).reshape(members + 1, size)
    most = int(high).bit_count() + 1  # rows of `hist` that can be non-zero
    for m in range(bits):
        most += 1
        halves = hist[:most].reshape(most, -1, 2, 1 << m)
        right, wrong = halves[:, :, 0].copy(), halves[:, :, 1].copy()
        np.add(right, wrong, out=halves[:, :, 0])
        halves[0, :, 1] = right[0]
        np.add(right[1:], wrong[:-1], out=halves[1:, :, 1])
    return hist


class Lattice:
    """`Sums` of the 2^b teams of one block after the other; `move` to a block before asking.

    Parameters
    ----------
    members : int
        M.
    patterns : pair of (M, U) bool and (U,) int, optional
        What `counts.error_patterns` returns; only `per_row` needs it.
    bits : int
        b, at most M.
    """

    def __init__(self, members: int, patterns: tuple[Array, Array] | None = None, bits: int = BLOCK_BITS) -> None:
        self.members, self.bits = members, min(bits, members)
        self.blocks = 1 << (members - self.bits)
        # By id; the matrix is kept beside its sums so that its id is not given to another one.
        self._low: dict[int, tuple[Array, Array]] = {}
        self._sums: dict[int, tuple[Array, Array]] = {}
        self._low_sizes = np.bitwise_count(np.arange(1 << self.bits)).astype(np.float64)
        if patterns is not None:
            wrong, times = patterns
            self._patterns = (wrong.T.astype(np.int64) << np.arange(members)).sum(1), times
        self.move(0)

    def move(self, block: int) -> None:
        """Go to block number `block`: the teams block * 2^b ... (block + 1) * 2^b - 1."""
        self._block = block
        self._sums = {}
        self._high = np.array([self.bits + m for m in members_of(block)], dtype=int)
        self.sizes: Array = self._low_sizes + len(self._high)
        self._rows: tuple[Array, Array] | None = None

    def pairs(self, matrix: Array) -> Array:
        """Sum over the pairs of every team: pairs within the low members, across, and within the high ones."""
        key = id(matrix)
        if key not in self._low:
            self._low[key] = matrix, subset_pair_sums(matrix[: self.bits, : self.bits])
        if key not in self._sums:
            sums = subset_sums(matrix[self._high, : self.bits].sum(0))
            sums += self._low[key][1]
            sums += np.triu(matrix[np.ix_(self._high, self._high)], 1).sum()
            self._sums[key] = matrix, sums
        return self._sums[key][1]

    def total(self, vector: Array) -> Array:
        """Sum over the members of every team."""
        return np.asarray(subset_sums(vector[: self.bits]) + vector[self._high].sum())

    @property
    def per_row(self) -> tuple[Array, Array]:
        """Sum over rows of min(right, wrong), and rows without any error."""
        if self._rows is None:
            hist = failure_histogram(*self._patterns, self.bits, self.members, self._block)
            spread = np.zeros(hist.shape[1])
            for fails in range(1, self.members):
                # min(fails, L - fails); rows with more failures than members do not exist (their count is 0).
                spread += hist[fails] * np.minimum(fails, np.maximum(self.sizes - fails, 0))
            self._rows = spread, hist[0].astype(np.float64)
        return self._rows
