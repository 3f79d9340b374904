"""The exact optimum over all teams with equal weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.diversity import MAX_LATTICE, all_teams
from lrensemble.selection.ballots import Ballots
from lrensemble.selection.base import team_of
from lrensemble.selection.enumerate import CLOSE, Enumerating, best_team, equal_votes, is_fast
from lrensemble.selection.votes import VOTES

_SLOW = 512  # teams that are voted on one by one between two looks at the clock


@dataclass(eq=False, repr=False)
class BruteForce(Enumerating):
    """Try every team of `size` members (without `size`: every team) and return the best.

    Ties go to the better NLL, then to the smaller team, then to the lower indices.

    Parameters
    ----------
    size : int, optional
        Any number when not given (up to 24 members).
    max_teams : int
        Refuse (`UserError`) rather than run for minutes.
    vote : str
        Other votes than soft, and other objectives, are 30 times slower.
    time_limit : float, optional
        Ctrl-C ends it too.
    """

    title = "brute force"

    objective: str = "nll"
    size: int | None = None
    max_teams: int = 2_000_000
    vote: str = "soft"
    temperature: bool = False
    time_limit: float | None = None

    def _choose(self, ballots: Ballots) -> tuple[Array, int]:
        total = ballots.total
        self._refuse_too_much(total)
        if ballots.vote is VOTES["soft"]:
            ballots = Ballots(ballots.array(), ballots.labels, memory=ballots.memory)
        best = -math.inf
        found: list[tuple[Array, Array]] = []  # (scores, teams)
        tried, everything = 0, self.teams_to_try(total)
        try:
            for teams, scores in self._scored(ballots):
                best = max(best, float(scores.max()))
                near = scores >= best - CLOSE
                found.append((scores[near], teams[near]))
                tried += len(teams)
                if tried < everything and self._over(f"{tried:,} of {everything:,} teams"):
                    break
        except KeyboardInterrupt:  # nothing found so far is lost; before the first teams there is nothing
            if not found:
                raise
            self.stopped_ = f"interrupted after {tried:,} of {everything:,} teams"
        teams = np.concatenate([teams[scores >= best - CLOSE] for scores, teams in found])
        return best_team(teams, ballots, self.objective), tried

    def _scored(self, ballots: Ballots) -> Iterator[tuple[Array, Array]]:
        """Portions of teams, as bit masks or indicators, and their scores, higher is better."""
        total, name, fast = ballots.total, self.objective, is_fast(ballots, self.objective)
        if fast and total <= 64:
            everything = self.size is None and total <= MAX_LATTICE
            sizes = None if everything else self._sizes(total)
            for chunk in all_teams(ballots.array(), ballots.labels, [name], sizes=sizes):
                yield chunk.masks, -chunk.scores[name] if name == "nll" else chunk.scores[name]
            return
        # No bit masks for so many members. The teams are few, or they would have been refused.
        teams = itertools.chain.from_iterable(itertools.combinations(range(total), s) for s in self._sizes(total))
        while part := list(itertools.islice(teams, 1 << 16 if fast else _SLOW)):
            indicators = np.stack([team_of(team, total) for team in part]).astype(bool)
            yield indicators, equal_votes(ballots, indicators, name)
