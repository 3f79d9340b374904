"""The exact optimum over all teams with equal weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError
from lrensemble.selection.base import Selector, score_teams, team_of

Array = NDArray[Any]


class BruteForce(Selector):
    """Try every team of `size` members (without `size`: every team) and return the best.

    Ties go to the better NLL, then to the smaller team, then to the lower indices.

    Parameters
    ----------
    objective : {"nll", "accuracy"}
    size : int, optional
        Number of members; any number when not given.
    max_teams : int
        Refuse (`UserError`) rather than run for hours.
    """

    def __init__(self, objective: str = "nll", size: int | None = None, max_teams: int = 300_000) -> None:
        self.objective = objective
        self.size = size
        self.max_teams = max_teams

    def teams_to_try(self, total: int) -> int:
        """Number of teams that `fit` would score for `total` members."""
        return sum(math.comb(total, size) for size in self._sizes(total))

    def is_too_much(self, total: int) -> bool:
        """True when `fit` would refuse so many members."""
        return self.teams_to_try(total) > self.max_teams

    def _sizes(self, total: int) -> Sequence[int]:
        return range(1, total + 1) if self.size is None else [self.size]

    def _select(self, P: Array, y: Array) -> tuple[Array, int]:
        total = len(P)
        tried = self.teams_to_try(total)
        if self.is_too_much(total):
            fits = [size for size in range(1, total + 1) if math.comb(total, size) <= self.max_teams]
            raise UserError(
                f"brute force would try {tried:,} teams of {total} members, the limit is {self.max_teams:,}: "
                f"give a size of {max((s for s in fits if s <= total // 2), default=1)} or less, or use greedy"
            )
        teams = itertools.chain.from_iterable(itertools.combinations(range(total), size) for size in self._sizes(total))
        best = -math.inf
        equals: list[tuple[int, ...]] = []
        while chunk := list(itertools.islice(teams, 4096)):
            scores = score_teams(_weights(chunk, total), P, y, self.objective)
            if scores.max() > best:
                best, equals = float(scores.max()), []
            equals += [team for team, score in zip(chunk, scores, strict=True) if score == best]
        nll = -score_teams(_weights(equals, total), P, y, "nll")
        return team_of(equals[int(np.argmin(nll))], total), tried


def _weights(teams: list[tuple[int, ...]], total: int) -> Array:
    return np.stack([team_of(team, total) / len(team) for team in teams])
