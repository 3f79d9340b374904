"""The front of score against inference cost: teams that no cheaper team reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.selection.ballots import Ballots
from lrensemble.selection.base import Selector, Step, smallest_within_one_se

_EXACT = 10  # members up to which all teams are scored
_KEPT = 5  # teams of a size that grow although they are not on the front


@dataclass(eq=False, repr=False)
class Pareto(Selector):
    """Equal-weight teams on the front of score against inference cost, and one of them.

    A team costs the sum of its members' costs (`fit`'s `costs`, in FLOPs or seconds a sample; without them every member
    costs 1). Up to 10 members all teams are scored and the front is exact. For more, the front of the single members
    grows: every team on it is tried with every further member; and so are the best teams of every size up to the
    largest, also where a size brings nothing new (of hard votes two members are no better than one).

    Parameters
    ----------
    budget : float, optional
        Return the best team of the front that costs no more. Without it: the cheapest team within one standard error
        of the best.
    size : at most so many members
    width : int
        At most so many teams of the front grow at a time, evenly spread over it.

    Attributes
    ----------
    trajectory_ : list of Step
        The front, from the cheapest team to the best.
    front_costs_ : (F,) array
        Cost of each of them.
    """

    budget: float | None = None
    objective: str = "nll"
    size: int | None = None
    width: int = 30
    vote: str = "soft"
    temperature: bool = False
    time_limit: float | None = None

    def _choose(self, ballots: Ballots) -> tuple[Array, int]:
        if self.budget is not None and self.budget < self.costs_.min():
            raise UserError(f"budget {self.budget:g} is not possible: the cheapest member costs {self.costs_.min():g}")
        teams, scores, tried = self._search(ballots)
        self.front_costs_: Array = teams @ self.costs_
        self.trajectory_ = [Step(team / team.sum(), float(score)) for team, score in zip(teams, scores, strict=True)]
        if self.budget is None:
            return smallest_within_one_se(self.trajectory_, ballots, self.objective, costs=self.costs_), tried
        return self.trajectory_[int(np.flatnonzero(self.front_costs_ <= self.budget)[-1])].weights, tried

    def _search(self, ballots: Ballots) -> tuple[Array, Array, int]:
        """The front as indicators (F, M) and scores (F,), by cost, and the number of teams scored."""
        total = ballots.total
        most = total if self.size is None else self.size
        teams = np.eye(total)
        if total <= _EXACT:
            teams = (np.arange(1, 2**total)[:, None] >> np.arange(total) & 1).astype(np.float64)
            teams = teams[teams.sum(1) <= most]
        scores = ballots.scores(teams / teams.sum(1, keepdims=True), self.objective)
        tried = len(teams)
        teams, scores = self._front(teams, scores)
        done: set[bytes] = set()
        largest = teams  # the best of the largest size so far
        while total > _EXACT:
            spread = np.concatenate([_spread(teams, self.width), _spread(largest, min(self.width, _KEPT))])
            parents = [team for team in np.unique(spread, axis=0) if team.tobytes() not in done and team.sum() < most]
            if not parents:
                break
            if self._over(f"{tried:,} teams"):
                break
            done.update(team.tobytes() for team in parents)
            grown = np.concatenate([np.maximum(team, np.eye(total)[team == 0]) for team in parents])
            grown = np.unique(grown, axis=0)
            tried += len(grown)
            both = np.concatenate([teams, grown])
            new = ballots.scores(grown / grown.sum(1, keepdims=True), self.objective)
            teams, scores = self._front(both, np.concatenate([scores, new]))
            sizes = grown.sum(1)
            if sizes.max() > largest[0].sum():
                here = sizes == sizes.max()
                largest, _ = self._front(grown[here], new[here])
        return teams, scores, tried

    def _front(self, teams: Array, scores: Array) -> tuple[Array, Array]:
        """Those that no other team is better than at the same or a lower cost; by cost. Ties go to smaller teams."""
        order = np.lexsort((teams.sum(1), -scores, teams @ self.costs_))
        teams, scores = teams[order], scores[order]
        best_before = np.concatenate([[-np.inf], np.maximum.accumulate(scores)[:-1]])
        return teams[scores > best_before], scores[scores > best_before]


def _spread(teams: Array, width: int) -> Array:
    """At most `width` of the teams (F, M), evenly spread."""
    return np.asarray(teams[np.unique(np.linspace(0, len(teams) - 1, min(width, len(teams))).round().astype(int))])
