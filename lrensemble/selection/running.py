"""Which member to add next: the score of a running sum of ballots with each candidate added.

Three of a kind, with ``ties(candidates)``, ``add(member)`` and ``reset()``. ``ties`` gives the candidates with the best
score and that score, to the last bit what the plain loop over all candidates gives:

- `RunningNLL` for linear votes: needs the true class's column only, and evaluates few candidates;
- `RunningAccuracy` (module `flips`) for votes that keep the order of the classes;
- `RunningVote` for everything else: the plain loop.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lrensemble.metrics import TINY
from lrensemble.selection.ballots import Ballots

Array = NDArray[Any]
_COLUMNS = 1024  # of a product in float32
_CACHE = 60_000  # numbers of candidates that are evaluated together: 240 KB
_FLOAT32 = 4e-6  # error of a mean logarithm in float32, beside its size


class Running(Protocol):
    """The score of a vote that grows by one ballot at a time."""

    def ties(self, candidates: Array) -> tuple[Array, float]:
        """Those of the candidates with the best score after their addition, and the score."""

    def add(self, member: int) -> None:
        """Add the ballots of a member once (more)."""

    def reset(self) -> None:
        """Start again from nothing."""


class RunningNLL:
    """Minus the NLL of a linear vote, of few candidates in full.

    First come upper bounds for all members, from two products of a matrix and a vector. With p any number and q the
    maximum over the members of the true class's probability in a row, a = S + p, d = p_m - p and u = (q - p) / a:
    log(S + p_m) = log a + log(1 + d / a) <= log a + d / a - c d^2 / 2 with c = 2 (u - log(1 + u)) / (q - p)^2, for
    (x - log(1 + x)) / x^2 falls; p is the mean over the members. Then candidates are evaluated in float32, from the
    highest bound on, until a bound is below the best; and those that rounding keeps apart from nobody, in float64.
    """

    def __init__(self, ballots: Ballots) -> None:
        self.true = ballots.true()
        self.mean = self.true.mean(0, dtype=self.true.dtype).astype(np.float32)
        deviations = np.subtract(self.true, self.mean, dtype=np.float32, casting="same_kind")
        self.above, self.below = (f(deviations, axis=0).astype(np.float64) for f in (np.max, np.min))
        self.deviations = _in_blocks(deviations)
        self.squares = self.deviations**2
        self._buffer = np.empty((max(1, _CACHE // self.true.shape[1]), self.true.shape[1]), dtype=np.float32)
        self.reset()

    def reset(self) -> None:
        self.sum = np.zeros(self.true.shape[1])
        self.count = 0

    def add(self, member: int) -> None:
        self.sum += self.true[member]
        self.count += 1

    def scores(self, members: Array) -> Array:
        """After the addition of each of the members, with the roundings of the plain loop over `nll_of`."""
        q = self.sum + self.true[members]
        q /= self.count + 1
        np.clip(q, TINY, 1.0, out=q)
        np.log(q, out=q)
        return np.asarray(q.mean(-1))

    def _rough(self, members: Array) -> Array:
        """The same in float32, in one piece of memory that stays in the cache."""
        step = np.float32(self.count + 1)
        q = self._buffer[: len(members)]
        if self.true.dtype == np.float32:
            self.true.take(members, axis=0, out=q, mode="clip")
        else:
            q[:] = self.true[members]
        q += self.sum.astype(np.float32)
        np.clip(q, step * np.float32(TINY), step, out=q)
        np.log(q, out=q)
        return np.asarray(q.mean(-1) - np.log(step), dtype=np.float64)

    def ties(self, candidates: Array) -> tuple[Array, float]:
        bounds = self._bounds()[candidates]
        order = np.argsort(-bounds, kind="stable")
        rough = np.full(len(order), -np.inf)
        margin, start, batch = 0.0, 0, len(self._buffer)
        while start < len(order) and bounds[order[start]] >= rough.max() - margin:
            part = order[start : start + batch]
            rough[part] = self._rough(candidates[part])
            margin = _FLOAT32 * (1 + abs(rough.max()))
            start += batch
        close = candidates[rough >= rough.max() - 2 * margin]
        exact = np.concatenate([self.scores(close[i : i + batch]) for i in range(0, len(close), batch)])
        return close[exact == exact.max()], float(exact.max())

    def _bounds(self) -> Array:
        step, n = self.count + 1, len(self.mean)
        # nll_of counts probabilities below TINY as TINY: max(q, TINY) <= q + TINY keeps the bound.
        base = self.sum + self.mean + step * TINY
        slope, logarithm = 1 / base, np.log(base)
        u = self.above * slope
        with np.errstate(divide="ignore", invalid="ignore"):
            curved = 2 * (u - (np.log(base + self.above) - logarithm)) / self.above**2
        # Where the difference loses its digits: the least curvature, at q.
        curvature = np.where(u > 1e-3, curved, 1 / (base + self.above) ** 2)
        gain = _product(self.deviations, slope) - 0.5 * _product(self.squares, curvature)
        # What so many additions in float32 can lose.
        size = np.maximum(self.above, -self.below) * slope
        loss = (_COLUMNS + 10) * 2.0**-24 * (size + 0.5 * size**2).sum()
        return np.asarray(logarithm.mean() - np.log(step) + (gain + loss) / n)


def _in_blocks(matrix: Array) -> Array:
    """(M, N) -> (blocks, M, _COLUMNS), zeros at the end: sums of few numbers, one piece of memory each."""
    members, n = matrix.shape
    blocks = np.zeros((-(-n // _COLUMNS), members, _COLUMNS), dtype=matrix.dtype)
    for i, block in enumerate(blocks):
        part = matrix[:, i * _COLUMNS : (i + 1) * _COLUMNS]
        block[:, : part.shape[1]] = part
    return blocks


def _product(blocks: Array, vector: Array) -> Array:
    """Matrix `_in_blocks` times a vector (N,), summed in float32 within the blocks and in float64 over them."""
    padded = np.zeros(len(blocks) * _COLUMNS, dtype=blocks.dtype)
    padded[: len(vector)] = vector
    return np.asarray((blocks @ padded.reshape(-1, _COLUMNS, 1)).sum(0, dtype=np.float64)[:, 0])


class RunningVote:
    """Any vote and objective, by the plain loop: every candidate's ballots are read in every step."""

    def __init__(self, ballots: Ballots, objective: str) -> None:
        self.ballots = ballots
        self.objective = objective
        self.reset()

    def reset(self) -> None:
        self.sum: Any = 0.0
        self.count = 0

    def add(self, member: int) -> None:
        self.sum = self.sum + self.ballots.member(member).astype(np.float64)
        self.count += 1

    def score(self, member: int) -> float:
        """After the addition of `member`."""
        total = self.sum + self.ballots.member(member).astype(np.float64)
        return self.ballots.score(self.ballots.vote.tally(total / (self.count + 1)), self.objective)

    def ties(self, candidates: Array) -> tuple[Array, float]:
        scores = np.array([self.score(int(m)) for m in candidates])
        return candidates[scores == scores.max()], float(scores.max())
