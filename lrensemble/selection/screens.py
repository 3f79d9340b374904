"""Which candidates can have the best NLL after their addition: few of many, found faster than the plain loop would.

`Products`, compiled by numba (extra ``fast``), knows every candidate's score to 1e-12; `Bounds`, in NumPy, bounds them.
Either has ``near(running, step, candidates)``: those of the candidates that can be best when added to the sum `running`
(N,) as the `step`-th, all that are best and a few more.
"""

from __future__ import annotations

import importlib.util
import sys

import numpy as np

from lrensemble.array import Array
from lrensemble.metrics import TINY

_COMPILED = "lrensemble.selection.compiled"
_WORTH_COMPILED = 50_000_000  # members x rows from which 40 steps repay the second that loading it takes
_COLUMNS = 1024  # of a product in float32
_CACHE = 60_000  # numbers of candidates that are evaluated together: 240 KB
_FLOAT32 = 4e-6  # error of a mean logarithm in float32, beside its size
_FLOAT64 = 1e-12  # the same of a product in float64: N roundings of 2^-53 in the product, 4 a row before, over N


def make_screen(true: Array) -> Products | Bounds:
    """Of the true class's probabilities (M, N): `Products` where its code is loaded, or there and worth it."""
    worth = true.size >= _WORTH_COMPILED and importlib.util.find_spec("numba") is not None
    return Products(true) if worth or _COMPILED in sys.modules else Bounds(true)


class Products:
    """All scores from one pass over memory: a product over the rows, its exponent kept apart, has one logarithm."""

    def __init__(self, true: Array) -> None:
        from lrensemble.selection.compiled import log_sums

        self._log_sums = log_sums
        self._columns = np.ascontiguousarray(true.T)

    def near(self, running: Array, step: int, candidates: Array) -> Array:
        sums = np.empty(self._columns.shape[1])
        self._log_sums(self._columns, running, step * TINY, float(step), sums)
        scores = sums[candidates] / len(running) - np.log(step)
        return np.asarray(candidates[scores >= scores.max() - 2 * _FLOAT64 * (1 + abs(scores.max()))])


class Bounds:
    """Upper bounds of all scores from two products of a matrix and a vector, then float32 for the most promising.

    With p any number and q the maximum over the members of the true class's probability in a row, a = S + p,
    d = p_m - p and u = (q - p) / a: log(S + p_m) = log a + log(1 + d / a) <= log a + d / a - c d^2 / 2 with
    c = 3 / (a^2 (3 + 2 u)), as log(1 + x) <= x (6 + x) / (6 + 4 x) for x >= 0, a Padé approximation, and
    log(1 + x) <= x - x^2 / 2 below 0. Here p is the mean over the members. Candidates are
    evaluated from the highest bound on, until a bound is below the best.
    """

    def __init__(self, true: Array) -> None:
        self.true = true
        self.mean = true.mean(0, dtype=true.dtype).astype(np.float32)
        deviations = np.subtract(true, self.mean, dtype=np.float32, casting="same_kind")
        self.above = deviations.max(0).astype(np.float64)
        self.size = np.maximum(self.above, -deviations.min(0))
        self.deviations = _in_blocks(deviations)
        self.squares = self.deviations**2
        self._buffer = np.empty((max(1, _CACHE // true.shape[1]), true.shape[1]), dtype=np.float32)

    def near(self, running: Array, step: int, candidates: Array) -> Array:
        bounds = self._bounds(running, step)[candidates]
        order = np.argsort(-bounds, kind="stable")
        rough = np.full(len(order), -np.inf)
        margin, start, batch = 0.0, 0, len(self._buffer)
        while start < len(order) and bounds[order[start]] >= rough.max() - margin:
            part = order[start : start + batch]
            rough[part] = self._rough(running, step, candidates[part])
            margin = _FLOAT32 * (1 + abs(rough.max()))
            start += batch
        return np.asarray(candidates[rough >= rough.max() - 2 * margin])

    def _rough(self, running: Array, step: int, members: Array) -> Array:
        """Scores in float32, in one piece of memory that stays in the cache."""
        top = np.float32(step)
        q = self._buffer[: len(members)]
        if self.true.dtype == np.float32:
            self.true.take(members, axis=0, out=q, mode="clip")
        else:
            q[:] = self.true[members]
        q += running.astype(np.float32)
        np.clip(q, top * np.float32(TINY), top, out=q)
        # Half the logarithms: no product of two is below 2^-104.
        half = q.shape[1] // 2
        logs = np.log(np.multiply(q[:, :half], q[:, half : 2 * half], out=q[:, :half]), out=q[:, :half]).sum(-1)
        if q.shape[1] % 2:
            logs += np.log(q[:, -1])
        return np.asarray(logs / q.shape[1] - np.log(top), dtype=np.float64)

    def _bounds(self, running: Array, step: int) -> Array:
        n = len(self.mean)
        # nll_of counts probabilities below TINY as TINY: max(q, TINY) <= q + TINY keeps the bound.
        base = running + self.mean + step * TINY
        slope = 1 / base
        curvature = 3 * slope / (3 * base + 2 * self.above)
        gain = _product(self.deviations, slope) - 0.5 * _product(self.squares, curvature)
        # What so many additions in float32 can lose.
        size = self.size * slope
        loss = (_COLUMNS + 10) * 2.0**-24 * (size.sum() + 0.5 * size @ size)
        return np.asarray(np.log(base).mean() - np.log(step) + (gain + loss) / n)


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
