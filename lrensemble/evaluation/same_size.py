"""The baselines that have as many members as the team: the best ones by rank, and random ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.evaluation.paired import RowScores
from lrensemble.metrics import find_metric, nll_rows, winners
from lrensemble.pool import Member, Pool, Team
from lrensemble.selection import Ballots, TopK

DRAWS = 100  # random teams; all teams of the size where there are no more
_BYTES = 2**28  # of votes at a time


class RandomTeams(NamedTuple):
    """Random teams of one size on the test rows."""

    mean: RowScores  # over the draws, row by row
    accuracies: Array  # (draws,)


class SameSize:
    """Baselines for the teams of a pool, each vote and size computed once."""

    def __init__(self, pool: Pool, members: Sequence[Member], labels: Array) -> None:
        self.pool, self.members, self.labels = pool, members, labels
        self._random: dict[tuple[Any, ...], RandomTeams] = {}

    def _candidates(self, team: Team) -> list[Member]:
        """The members that the team's selector could choose from, as far as they are there."""
        known = set(team.candidates)
        return [member for member in self.members if member.id in known]

    def differs(self, team: Team) -> bool:
        """Whether there are other teams of this size to compare with: more than one member, fewer than all."""
        return 1 < len(team.members) < len(self._candidates(team))

    def _top(self, team: Team, candidates: Sequence[Member], ranked: bool = True) -> TopK:
        """Top-k with the team's size, objective, vote and temperatures, on validation."""
        selector = TopK(
            size=len(team.members),
            objective=team.parameters.get("objective", "nll") if ranked else "nll",
            vote=team.vote,
            temperature=bool(team.temperatures),
        )
        return selector.fit(self.pool.predictions("val", candidates), self.pool.labels("val"))

    def top_k(self, team: Team) -> Array | None:
        """Vote (N, C) of top-k with the team's size; None where it is the team itself, or the objective unknown."""
        candidates = self._candidates(team)
        try:
            find_metric(team.parameters.get("objective", "nll"))
        except UserError:  # `Measures` says why
            return None
        selector = self._top(team, candidates)
        chosen = {candidates[i].id for i in selector.members_}
        if chosen == set(team.members) and len(set(team.members.values())) == 1:
            return None
        return selector.predict_proba(self.pool.predictions("test", candidates))

    def random(self, team: Team) -> RandomTeams:
        """Random teams with equal weights, the team's size and its vote."""
        candidates = self._candidates(team)
        size = len(team.members)
        key = (size, team.vote, bool(team.temperatures), tuple(team.candidates))
        if key not in self._random:
            temperatures = self._top(team, candidates, ranked=False).temperatures_ if team.temperatures else None
            ballots = Ballots(
                self.pool.predictions("test", candidates),
                self.labels,
                vote=team.vote,
                temperatures=temperatures,
                memory=4 * _BYTES,
            )
            self._random[key] = random_teams(ballots, draw_teams(len(candidates), size))
        return self._random[key]


def draw_teams(total: int, size: int, draws: int = DRAWS, seed: int = 0) -> Array:
    """Random teams of `size` members as indicators (T, `total`); all such teams where they are no more than `draws`."""
    if math.comb(total, size) <= draws:
        teams = [list(team) for team in itertools.combinations(range(total), size)]
    else:
        rng = np.random.default_rng(seed)
        teams = [rng.choice(total, size, replace=False).tolist() for _ in range(draws)]
    indicators = np.zeros((len(teams), total))
    np.put_along_axis(indicators, np.array(teams), 1.0, axis=1)
    return indicators


def random_teams(ballots: Ballots, teams: Array) -> RandomTeams:
    """Score the equal votes of these teams (T, M), row by row on average and as a whole each."""
    right, nll = np.zeros(ballots.rows), np.zeros(ballots.rows)
    accuracies = np.zeros(len(teams))
    for rows, block in ballots.blocks(share=8):
        labels = ballots.labels[rows]
        flat = block.reshape(ballots.total, -1).astype(np.float64, copy=False)  # as the votes they are compared with
        step = max(1, _BYTES // (flat.shape[1] * flat.dtype.itemsize))
        for start in range(0, len(teams), step):
            part = teams[start : start + step]
            mean = (part @ flat) / part.sum(1, keepdims=True)
            vote = ballots.vote.tally(mean.reshape(-1, *block.shape[1:]))
            correct = winners(vote) == labels
            right[rows] += correct.sum(0)
            nll[rows] += nll_rows(vote, labels).sum(0)
            accuracies[start : start + step] += correct.sum(1)
    return RandomTeams(RowScores(right / len(teams), nll / len(teams)), accuracies / ballots.rows)
