"""Greedy selection with a reward for diversity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.diversity import diversity_scorer, get_metric
from lrensemble.errors import UserError
from lrensemble.metrics import nll_of, true_class
from lrensemble.selection.ballots import score_of
from lrensemble.selection.base import Selector, Step, team_of


@dataclass(eq=False, repr=False)
class DiverseGreedy(Selector):
    """Forward selection without replacement of the team that maximises objective - strength x (lack of diversity).

    Lack of diversity is the metric oriented so that lower = more diverse, of the whole team, and 0 where it is
    undefined (as for the first member, so that the best single one is first). The trade-off is that of diversity
    regularised pruning (Li, Yu & Zhou 2012, "Diversity Regularized Ensemble Pruning", ECML PKDD), in a form that works
    with any metric and objective. Ties go to the lower index. With `size` the team of that size is returned, else the
    prefix of two or more members that maximises the same sum (of equals the shortest).

    Parameters
    ----------
    metric : str
        A name of `lrensemble.diversity.METRICS`.
    strength : float
        Nats (or shares of rows) that one unit of the metric is worth; 0 leaves plain forward selection.

    The scores of its trajectory are the regularised ones.
    """

    objective: str = "nll"
    size: int | None = None
    metric: str = "BD"
    strength: float = 0.1
    time_limit: float | None = None

    def _select(self, P: Array, y: Array) -> tuple[Array, int]:
        total, nll = len(P), self.objective == "nll"
        name = get_metric(self.metric).name
        if not self.strength >= 0:
            raise UserError(f"strength {self.strength} is not possible: it is the worth of diversity, 0 or more")
        lack = diversity_scorer(P.argmax(-1), y, [name], oriented=True)
        columns = (true_class(P, y) if nll else P).astype(np.float64)
        vote = np.zeros(columns.shape[1:])
        team: list[int] = []
        tried = 0
        for step in range(1, (self.size or total) + 1):
            if step > 2 and self._over(f"{step - 1} of {self.size or total} members"):
                break
            candidates = np.setdiff1d(np.arange(total), team)
            votes = ((vote + columns[m]) / step for m in candidates)
            scores = np.array([-nll_of(v).mean() if nll else score_of(v, y, self.objective) for v in votes])
            teams = np.stack([team_of([*team, m], total) for m in candidates]).astype(bool)
            scores -= self.strength * np.nan_to_num(lack(teams)[name])
            best = int(np.argmax(scores))
            team.append(int(candidates[best]))
            vote += columns[team[-1]]
            tried += len(candidates)
            self.trajectory_.append(Step(team_of(team, total) / step, float(scores[best]), team[-1]))
        if self.size is None and total > 1:
            team = team[: 2 + int(np.argmax([step.score for step in self.trajectory_[1:]]))]
        return team_of(team, total), tried
