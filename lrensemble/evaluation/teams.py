"""Who takes part in an evaluation, and how each votes on the test split."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError, did_you_mean
from lrensemble.evaluation.results import ALL_AVERAGE, BEST_SINGLE
from lrensemble.metrics import check_finite
from lrensemble.pool import Member, Pool, Predictions, Team
from lrensemble.selection import team_vote

TEST = "predictions/test.npy"
Teams = Sequence[Team | str] | Team | str | None


class Entry(NamedTuple):
    """What takes part: members with weights (by id), the vote they take, and their temperatures where they have any."""

    weights: dict[str, float]
    vote: str = "soft"
    temperatures: dict[str, float] | None = None

    @classmethod
    def of(cls, team: Team) -> Entry:
        return cls(team.members, team.vote, team.temperatures)


def with_baselines(
    teams: list[Team], single: dict[str, float], average: dict[str, float]
) -> tuple[dict[str, Entry], str, str]:
    """Name -> entry, the best single member first, the average of all second, then the teams; and their two names.

    A baseline that was selected as a team too goes by the team's name, and appears once.
    """
    entries: dict[str, Entry] = {}
    names: list[str] = []
    for baseline, weights in ((BEST_SINGLE, single), (ALL_AVERAGE, average)):
        same = (team.name for team in teams if team.is_plain and team.members == weights)
        names.append(next(same, f"({baseline})"))
        entries[names[-1]] = Entry(weights)
    return entries | {team.name: Entry.of(team) for team in teams}, names[0], names[1]


def resolve(pool: Pool, teams: Teams, *splits: str) -> tuple[list[Team], dict[str, str]]:
    """The teams to evaluate on `splits`, and why others are left out.

    A team that is asked for and cannot be evaluated is a `UserError`; where all teams are meant, it is left out as
    long as one remains.
    """
    if teams is not None:
        wanted = [teams] if isinstance(teams, Team | str) else list(teams)
        if not wanted:
            raise UserError(f"no team is named: {did_you_mean('', pool.team_names)}")
        chosen = [pool.team(team) if isinstance(team, str) else team for team in wanted]
        for team in chosen:
            pool.members_of(team, *splits)
        return list({team.name: team for team in chosen}.values()), {}
    chosen, left_out = whole_teams(pool, *splits)
    if not chosen:
        reasons = [
            *left_out.values(),
            f"{pool.path} has no teams yet: run lrensemble select {shlex.quote(str(pool.path))}",
        ]
        raise UserError(reasons[0])
    return chosen, left_out


def whole_teams(pool: Pool, *splits: str) -> tuple[list[Team], dict[str, str]]:
    """The teams of a pool that can be used, and by name why others cannot."""
    teams, left_out = [], {}
    for name in pool.team_names:
        try:
            team = pool.team(name)
            pool.members_of(team, *splits)
            teams.append(team)
        except UserError as error:
            left_out[name] = str(error)
    return teams, left_out


def check_test_predictions(pool: Pool, members: Sequence[Member]) -> None:
    """Raise a `UserError` that says what still can be done when no member has its test predictions."""
    if not any((member.path / TEST).is_file() for member in members):
        raise UserError(
            f"{pool.path} has no test predictions, so nothing can be evaluated: copy members/*/{TEST} from where the "
            f"pool was filled, or train again. lrensemble select {pool.path} --stability 20 judges teams on validation "
            "alone"
        )


def predictions(pool: Pool, entry: Entry, known: dict[str, Member]) -> Predictions:
    """Of the entry's members on the test split, checked: finite numbers."""
    found = pool.predictions("test", [known[member_id] for member_id in entry.weights])
    for member_id, array in zip(entry.weights, found, strict=True):
        check_finite(array, f"the test predictions of member {member_id}", ": move it out of the pool")
    return found


def vote(entry: Entry, found: Predictions) -> Array:
    """The entry's own vote: (N, C) from the predictions of its members."""
    return team_vote(
        found,
        np.array(list(entry.weights.values())),
        entry.vote,
        np.array([entry.temperatures[i] for i in entry.weights]) if entry.temperatures else None,
    )
