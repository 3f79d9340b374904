"""The exact optimum over all teams with equal weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.diversity import MAX_LATTICE, all_teams, team_votes
from lrensemble.selection.base import deadline, team_of
from lrensemble.selection.enumerate import Enumerating, best_team

Array = NDArray[Any]
_CLOSE = 1e-12  # scores nearer than this are compared again in one way of adding


@dataclass(eq=False, repr=False)
class BruteForce(Enumerating):
    """Try every team of `size` members (without `size`: every team) and return the best.

    Ties go to the better NLL, then to the smaller team, then to the lower indices.

    Parameters
    ----------
    objective : {"nll", "accuracy"}
    size : int, optional
        Number of members; any number when not given (up to 24 members).
    max_teams : int
        Refuse (`UserError`) rather than run for minutes.
    time_limit : float, optional
        Seconds; then, and on Ctrl-C, the best so far is returned and `stopped_` says so.
    """

    title = "brute force"

    objective: str = "nll"
    size: int | None = None
    max_teams: int = 2_000_000
    time_limit: float | None = None

    def _select(self, P: Array, y: Array) -> tuple[Array, int]:
        total = len(P)
        self._refuse_too_much(total)
        best = math.inf
        found: list[tuple[Array, Array]] = []  # (keys, teams), the lower the better
        tried, over = 0, deadline(self.time_limit)
        try:
            for teams, scores in self._scored(P, y):
                keys = scores if self.objective == "nll" else -scores
                best = min(best, float(keys.min()))
                near = keys <= best + _CLOSE
                found.append((keys[near], teams[near]))
                tried += len(teams)
                if over() and tried < self.teams_to_try(total):
                    self.stopped_ = (
                        f"stopped after {self.time_limit:g} s: {tried:,} of {self.teams_to_try(total):,} teams"
                    )
                    break
        except KeyboardInterrupt:  # nothing found so far is lost; before the first teams there is nothing
            if not found:
                raise
            self.stopped_ = f"interrupted: {tried:,} of {self.teams_to_try(total):,} teams were tried"
        teams = np.concatenate([teams[keys <= best + _CLOSE] for keys, teams in found])
        return best_team(teams, P, y, self.objective), tried

    def _scored(self, P: Array, y: Array) -> Iterator[tuple[Array, Array]]:
        """Portions of teams, as bit masks or indicators, and their scores."""
        total = len(P)
        if total <= 64:
            everything = self.size is None and total <= MAX_LATTICE
            for chunk in all_teams(P, y, [self.objective], sizes=None if everything else self._sizes(total)):
                yield chunk.masks, chunk.scores[self.objective]
            return
        # No bit masks for so many members. The teams are few, or they would have been refused.
        teams = itertools.chain.from_iterable(itertools.combinations(range(total), s) for s in self._sizes(total))
        while part := list(itertools.islice(teams, 1 << 16)):
            indicators = np.stack([team_of(team, total) for team in part]).astype(bool)
            yield indicators, team_votes(P, y, indicators, [self.objective])[self.objective]
