"""Hierarchical pruning by focal diversity (Wu et al. 2021, ICDM, "Boosting Deep Ensemble Performance with Hierarchical
Pruning": HQ)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.diversity import MAX_LATTICE, all_masks, focal_scores
from lrensemble.errors import UserError
from lrensemble.selection.ballots import Ballots
from lrensemble.selection.enumerate import Enumerating, best_team
from lrensemble.selection.focal import metric_names, team_scores


@dataclass(eq=False, repr=False)
class Hierarchical(Enumerating):
    """Grow teams size by size without those that contain a badly diverse smaller team; return the best that is left.

    For sizes 2, 3, ...: drop the teams that contain a pruned team, rank the rest by their focal (FQ or EQ) score, and
    prune the least diverse share `beta` of them (rounded down; ties: the higher mask). `objective` decides among the
    survivors, ties as in `BruteForce`. Labels and votes play no part in the pruning but for who is wrong where.

    Where no team of the wanted size survives (surely so for the team of all, once anything is pruned), and for teams of
    one member, all teams of the size are candidates.

    Parameters
    ----------
    size : int, optional
        Any number from 2 when not given.
    metric : str
        A name of `lrensemble.diversity.METRICS`, or "EQ".
    beta : float
        Share pruned at every size, in [0, 1); the paper's 0.1.
    max_teams : int
        Refuse (`UserError`) rather than run for minutes.

    Attributes
    ----------
    candidates_ : (K,) array of int
        Bit masks of the survivors that `objective` decides among.
    """

    title = "hierarchical"
    max_members = MAX_LATTICE

    objective: str = "nll"
    size: int | None = None
    metric: str = "GD"
    beta: float = 0.1
    max_teams: int = 200_000
    time_limit: float | None = None

    def teams_to_try(self, total: int) -> int:
        """Number of teams that `fit` would score: those of all sizes up to the wanted one."""
        last = total if self.size is None else self.size
        return sum(math.comb(total, size) for size in range(min(2, last), last + 1))

    def _select(self, P: Array, y: Array) -> tuple[Array, int]:
        total = len(P)
        names = metric_names(self.metric)
        if not 0 <= self.beta < 1:
            raise UserError(f"beta {self.beta} is not possible: it is the share to prune, at least 0 and below 1")
        self._refuse_too_much(total)
        predicted = P.argmax(-1)
        last = total if self.size is None else self.size
        dead = np.zeros(1 << total, dtype=bool)  # contains a pruned team, or is one
        alive: list[Array] = []
        for size in range(2, last + 1):
            if alive and self.size is None and self._over(f"teams of up to {size - 1} members"):
                break
            masks = all_masks(total, [size])
            for m in range(total):
                having = masks[masks >> np.uint32(m) & 1 == 1]
                dead[having] |= dead[having ^ np.uint32(1 << m)]
            rest = np.flatnonzero(~dead[masks])
            if len(rest) == 0:
                break
            scores = team_scores(focal_scores(predicted, y, masks, names), np.full(len(masks), size))
            known = rest[~np.isnan(scores[rest])]
            worst = known[np.lexsort((-masks[known].astype(np.int64), -scores[known]))][: int(self.beta * len(rest))]
            dead[masks[worst]] = True
            alive.append(masks[rest][~dead[masks[rest]]])
        if self.size is not None:
            alive = [part for part in alive if len(part) and np.bitwise_count(part[0]) == self.size]
        alive = [part for part in alive if len(part)]
        self.candidates_: Array = np.concatenate(alive or [all_masks(total, [last])])
        return best_team(self.candidates_, Ballots(P, y), self.objective), self.teams_to_try(total)
