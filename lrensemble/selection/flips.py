"""Accuracy of a running sum of ballots with each member added, from the rows alone that can still flip.

Row i is right when for every class k other than its label y: S_y + p_y > S_k + p_k (or equal, and y comes first), where
S is the running sum and p the candidate's ballot. With d = p_y - p_k, and the smallest and largest d of all members:

- S_y - S_k + min d > 0: the pair (i, k) is in order whoever is added; that holds for good where min d > 0;
- S_y - S_k + max d < 0: the row is wrong whoever is added.

All d of the remaining pairs are compared with S_k - S_y at once, in float32. Where a rounding error could decide, the
row is voted on as the plain loop would, in float64, with its `winners`: the counts are exact, ties included.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lrensemble.array import Array
from lrensemble.metrics import TIE, winners
from lrensemble.selection.ballots import Ballots

_TILE = 1 << 18  # differences compared at a time: 1 MB, stays in the cache
_GROUP = 16  # members read before they are written transposed


class RunningAccuracy:
    """Accuracy of a vote that keeps the order of the classes."""

    def __init__(self, ballots: Ballots) -> None:
        self.ballots = ballots
        y, n = ballots.labels, ballots.rows
        index = np.arange(n)
        first = ballots.member(0)
        low = np.full(first.shape, np.inf, dtype=np.float32)
        high = -low
        difference = np.empty_like(first)
        # What puts a class before the label: a lead beyond a tie, and a tie if the class is lower.
        least = np.where(np.arange(first.shape[1]) < y[:, None], TIE, -TIE).astype(first.dtype)
        self._alone: Array = np.empty(ballots.total, dtype=int)
        for m in range(ballots.total):
            p = ballots.member(m)
            np.subtract(p[index, y][:, None], p, out=difference)
            wrong = np.flatnonzero(difference < least) // p.shape[1]  # rows, sorted
            self._alone[m] = n - np.count_nonzero(np.diff(wrong, prepend=-1))
            np.minimum(low, difference, out=low)
            np.maximum(high, difference, out=high)
        self.sum: Array = np.zeros(first.shape)
        self.count = 0
        # Four roundings to float32 of numbers that are no larger than the largest difference; above all ties.
        self._rounding = 4 * 2.0**-24 * float(max(-low.min(), high.max(), 0.01))
        lost = np.any(high < -self._rounding, axis=1)
        binding: Array = np.logical_and(low <= self._rounding, ~lost[:, None])
        binding[index, y] = False
        self._lost = int(lost.sum())
        self._row, self._class = np.nonzero(binding)  # sorted by row
        self._low, self._high = low[binding], high[binding]
        self._at: Array = np.full(len(self._row), -1)  # where a pair's differences are in the memory
        self._stored = np.empty((0, ballots.total), dtype=np.float32)

    def reset(self) -> None:
        self.sum[:] = 0
        self.count = 0

    def add(self, member: int) -> None:
        self.sum += self.ballots.member(member)
        self.count += 1

    def ties(self, candidates: Array) -> tuple[Array, float]:
        right = self.right()[candidates]
        return candidates[right == right.max()], float(right.max() / self.ballots.rows)

    def right(self) -> Array:
        """Number of rows right after the addition of each member: (M,)."""
        if self.count == 0:  # when most pairs are open
            return self._alone
        gap = self.sum[self._row, self.ballots.labels[self._row]] - self.sum[self._row, self._class]
        dead = np.zeros(self.ballots.rows, dtype=bool)
        dead[self._row[gap + self._high < -self._rounding]] = True
        pairs = np.flatnonzero((gap + self._low <= self._rounding) & ~dead[self._row])
        wrong = np.full(self.ballots.total, self._lost + int(dead.sum()))
        for part, differences in self._differences(pairs, gap):
            wrong += self._wrong(part, differences, gap[part])
        return np.asarray(self.ballots.rows - wrong)

    def _wrong(self, pairs: Array, differences: Array, gap: Array) -> Array:
        """Members (M,) -> number of wrong rows among those of `pairs`, which hold all open pairs of each row."""
        rows = self._row[pairs]
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        count = np.diff(first, append=len(rows))
        surely = _any_of_row(differences < (-gap - self._rounding).astype(np.float32)[:, None], first, count)
        maybe = _any_of_row(differences < (-gap + self._rounding).astype(np.float32)[:, None], first, count)
        if not np.array_equal(surely, maybe):
            at, member = np.nonzero(surely != maybe)
            row = rows[first[at]]
            vote = self.sum[row] + self.ballots.at(member, row)
            surely[at, member] = winners(vote / (self.count + 1)) != self.ballots.labels[row]
        # Summing bytes in groups of at most 255 is several times faster than summing booleans.
        starts = np.arange(0, len(surely), 255)
        return np.asarray(np.add.reduceat(surely.view(np.uint8), starts, axis=0, dtype=np.uint8).sum(0, dtype=np.int64))

    def _differences(self, pairs: Array, gap: Array) -> Iterator[tuple[Array, Array]]:
        """Open pairs in pieces of whole rows, with the differences (n, M) of all members."""
        if len(pairs) == 0:
            return
        limit = max(1, self.ballots.memory // 4 // (4 * self.ballots.total))
        if (self._at[pairs] < 0).any():
            for horizon in (self.count + 1, 1):
                # What may be open within so many additions; more and more of them suffice as the sum grows.
                kept = np.flatnonzero(gap + horizon * self._low <= self._rounding)
                if len(kept) <= limit:
                    self._store(kept)
                    break
        stored = not (self._at[pairs] < 0).any()
        for part in self._pieces(pairs, max(1, _TILE // self.ballots.total) if stored else limit):
            if stored:
                at = self._at[part]
                whole = at[-1] - at[0] + 1 == len(at)
                yield part, self._stored[at[0] : at[-1] + 1] if whole else self._stored[at]
            else:
                yield part, self._read(part)

    def _store(self, pairs: Array) -> None:
        self._at[:] = -1
        self._at[pairs] = np.arange(len(pairs))
        self._stored = self._stored[:0].copy()  # frees the old ones first
        self._stored = self._read(pairs)

    def _pieces(self, pairs: Array, size: int) -> Iterator[Array]:
        """About `size` pairs each, cut between rows."""
        rows = self._row[pairs]
        start = 0
        while start < len(pairs):
            stop = len(pairs)
            if start + size < stop:
                stop = int(np.searchsorted(rows, rows[start + size]))
                if stop <= start:  # one row with more pairs than that
                    stop = int(np.searchsorted(rows, rows[start], side="right"))
            yield pairs[start:stop]
            start = stop

    def _read(self, pairs: Array) -> Array:
        """Differences of all members in these pairs: (n, M), float32."""
        out = np.empty((len(pairs), self.ballots.total), dtype=np.float32)
        if len(pairs) == 0:
            return out
        rows, classes = self._row[pairs], self._class[pairs]
        first = int(rows[0])
        span = slice(first, int(rows[-1]) + 1)
        width = self.sum.shape[1]
        wrong = (rows - first) * width + classes
        right = (rows - first) * width + self.ballots.labels[rows]
        for start in range(0, self.ballots.total, _GROUP):
            members = range(start, min(start + _GROUP, self.ballots.total))
            group = np.stack([_difference(self.ballots.member(m, span), right, wrong) for m in members])
            out[:, start : start + _GROUP] = group.T
        return out


def _difference(p: Array, right: Array, wrong: Array) -> Array:
    flat = p.reshape(-1)
    return (flat.take(right) - flat.take(wrong)).astype(np.float32)


def _any_of_row(bad: Array, first: Array, count: Array) -> Array:
    """For every row whether any of its pairs is bad: (rows, M) from (pairs, M), pairs sorted by row."""
    out: Array = bad[first]
    for j in range(1, int(count.max())):
        more = np.flatnonzero(count > j)
        out[more] |= bad[first[more] + j]
    return out
