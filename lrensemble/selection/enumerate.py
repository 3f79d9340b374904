"""Selectors that look at every team: how many teams are too many, and the best among equals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.diversity import MAX_LATTICE, TeamScores, all_teams, members_of, team_votes
from lrensemble.errors import UserError
from lrensemble.selection.base import Selector, team_of

Array = NDArray[Any]


class Enumerating(Selector):
    """A selector that scores every team of `size` members, or (without `size`) every team.

    Subclasses set `max_teams`, where they need bit masks `max_members`, and say what they are called.
    """

    max_teams: int
    max_members: float = math.inf
    title: str

    def teams_to_try(self, total: int) -> int:
        """Number of teams that `fit` would score for `total` members."""
        return sum(math.comb(total, size) for size in self._sizes(total))

    def is_too_much(self, total: int) -> bool:
        """True when `fit` would refuse so many members."""
        return total > self.max_members or self.teams_to_try(total) > self.max_teams

    def _sizes(self, total: int) -> Sequence[int]:
        return range(1, total + 1) if self.size is None else [self.size]

    def _refuse_too_much(self, total: int) -> None:
        if total > self.max_members:
            raise UserError(f"{self.title} takes {self.max_members} members at most, not {total}: use greedy")
        if self.is_too_much(total):
            fits = [size for size in range(1, total + 1) if math.comb(total, size) <= self.max_teams]
            raise UserError(
                f"{self.title} would try {self.teams_to_try(total):,} teams of {total} members, the limit is "
                f"{self.max_teams:,}: give a size of {max((s for s in fits if s <= total // 2), default=1)} or less, "
                "or use greedy"
            )


def score_every_team(P: Array, y: Array, sizes: Sequence[int]) -> tuple[Array, Array, Array]:
    """Bit masks of all teams of these sizes (ascending, size by size), their soft-vote accuracy, and their NLL."""
    total = len(P)
    everything = total <= MAX_LATTICE and set(sizes) == set(range(1, total + 1))
    chunks = list(all_teams(P, y, ["accuracy", "nll"], sizes=None if everything else sizes))
    teams = TeamScores.joined(chunks)
    teams = teams.only(np.argsort(np.bitwise_count(teams.masks), kind="stable"))
    return teams.masks, teams.scores["accuracy"], teams.scores["nll"]


def best_team(teams: Array, P: Array, y: Array, objective: str) -> Array:
    """Indicator weights (M,) of the best of these teams: (T,) bit masks or (T, M) bool.

    Ties go to the better NLL, then to the smaller team, then to the lower indices.
    """
    names = ["nll"] if objective == "nll" else ["accuracy", "nll"]
    scores = team_votes(P, y, teams, names)
    key = scores["nll"] if objective == "nll" else -scores["accuracy"]
    equal = np.flatnonzero(key == key.min())
    equal = equal[scores["nll"][equal] == scores["nll"][equal].min()]
    chosen = [np.flatnonzero(team).tolist() if np.ndim(team) else members_of(team) for team in teams[equal]]
    return team_of(min(chosen, key=lambda team: (len(team), team)), len(P))
