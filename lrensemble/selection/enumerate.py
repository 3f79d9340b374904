"""Selectors that look at every team: how many teams are too many, and the best among equals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrensemble.array import Array
from lrensemble.diversity import members_of, team_votes
from lrensemble.diversity.teams import indicators_of
from lrensemble.errors import UserError
from lrensemble.selection.ballots import OBJECTIVES, Ballots
from lrensemble.selection.base import Selector, team_of
from lrensemble.selection.votes import VOTES

CLOSE = 1e-12  # scores nearer than this may be equal, added in another order


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


def is_fast(ballots: Ballots, objective: str) -> bool:
    """Whether `lrensemble.diversity` knows the score of all teams: else every team is voted on by itself."""
    return ballots.vote is VOTES["soft"] and ballots.temperatures is None and objective in OBJECTIVES


def equal_votes(ballots: Ballots, teams: Array, objective: str) -> Array:
    """Scores (T,), higher is better, of teams with equal weights: (T,) bit masks or (T, M) bool."""
    if is_fast(ballots, objective):
        scores = team_votes(ballots.array(), ballots.labels, teams, [objective])[objective]
        return -scores if objective == "nll" else scores
    inside = indicators_of(teams, ballots.total)
    return ballots.scores(inside / inside.sum(1, keepdims=True), objective)


def best_team(teams: Array, ballots: Ballots, objective: str) -> Array:
    """Indicator weights (M,) of the best of these teams: (T,) bit masks or (T, M) bool.

    Ties go to the better NLL, then to the smaller team, then to the lower indices.
    """
    for name in dict.fromkeys((objective, "nll")):
        scores = equal_votes(ballots, teams, name)
        teams = teams[scores >= scores.max() - (0 if is_fast(ballots, name) else CLOSE)]
    chosen = [np.flatnonzero(team).tolist() if np.ndim(team) else members_of(team) for team in teams]
    return team_of(min(chosen, key=lambda team: (len(team), team)), ballots.total)
