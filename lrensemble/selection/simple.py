"""The selectors that everybody must beat: best single, all, top-k, random."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.selection.base import Selector, score_teams, team_of

Array = NDArray[Any]


class All(Selector):
    """Every member with equal weight."""

    def _select(self, P: Array, y: Array) -> tuple[Array, int]:
        return np.ones(len(P)), 1


class TopK(Selector):
    """The `size` members with the best scores of their own; without `size`, the number that votes best together.

    Ties go to the lower index, and to the smaller team.
    """

    def __init__(self, size: int | None = None, objective: str = "nll") -> None:
        self.size = size
        self.objective = objective

    def _select(self, P: Array, y: Array) -> tuple[Array, int]:
        total = len(P)
        ranked = np.argsort(-score_teams(np.eye(total), P, y, self.objective), kind="stable")
        if self.size is not None:
            return team_of(ranked[: self.size], total), total
        prefixes = np.stack([team_of(ranked[:k], total) / k for k in range(1, total + 1)])
        best = int(np.argmax(score_teams(prefixes, P, y, self.objective)))
        return prefixes[best], 2 * total


class BestSingle(TopK):
    """The one member with the best score."""

    def __init__(self, objective: str = "nll") -> None:
        super().__init__(size=1, objective=objective)


class Random(Selector):
    """A random team of `size` members (default 5, or all of a smaller pool) with equal weights."""

    def __init__(self, size: int | None = None, seed: int = 0) -> None:
        self.size = size
        self.seed = seed

    def _select(self, P: Array, y: Array) -> tuple[Array, int]:
        size = min(5, len(P)) if self.size is None else self.size
        return team_of(np.random.default_rng(self.seed).choice(len(P), size, replace=False), len(P)), 1
