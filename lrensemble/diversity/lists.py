"""Sums for any list of teams, by matrix products with their indicators."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from lrensemble.array import Array

_CHUNK = 4_000_000  # numbers in one intermediate array


class TeamList:
    """`Sums` of T teams given as an indicator matrix. O(T M^2) a quadratic form, O(T M U) for `per_row`.

    Parameters
    ----------
    indicators : (T, M) array of bool
    patterns : pair of (M, U) bool and (U,) int
        What `counts.error_patterns` returns; only `per_row` needs it.
    """

    def __init__(self, indicators: Array, patterns: tuple[Array, Array] | None = None) -> None:
        self._x = np.asarray(indicators, dtype=np.float64)
        self._patterns = patterns
        self.sizes: Array = self._x.sum(1)

    def pairs(self, matrix: Array) -> Array:
        """Sum over the pairs of every team."""
        hole = np.isnan(matrix)
        if hole.any():  # 0 * NaN would spoil the teams that do not have this pair
            holes = self.pairs(hole.astype(np.float64))
            return np.where(holes > 0, np.nan, self.pairs(np.where(hole, 0.0, matrix)))
        upper = np.triu(matrix, 1)
        sums: Array = np.einsum("tm,tm->t", self._x @ upper, self._x)
        return sums

    def total(self, vector: Array) -> Array:
        """Sum over the members of every team."""
        sums: Array = self._x @ vector
        return sums

    @cached_property
    def per_row(self) -> tuple[Array, Array]:
        """Sum over rows of min(right, wrong), and rows without any error."""
        assert self._patterns is not None
        wrong, times = self._patterns
        # float32 counts members exactly, and times only what is below 2^24: the last product is float64.
        wrong, x = wrong.astype(np.float32), self._x.astype(np.float32)
        spread, clean = np.empty(len(x)), np.empty(len(x))
        step = max(1, _CHUNK // max(1, wrong.shape[1]))
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            fails = x[part] @ wrong
            clean[part] = (fails == 0) @ times.astype(np.float64)
            spread[part] = np.minimum(fails, x[part].sum(1)[:, None] - fails) @ times.astype(np.float64)
        return spread, clean
