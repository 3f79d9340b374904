"""A team of a pool as a module."""

from __future__ import annotations

from lrensemble.evaluation.network import load_network
from lrensemble.export.module import TeamModule
from lrensemble.pool import Member, Pool, Team


def voters(pool: Pool, team: Team) -> dict[str, Member]:
    """The team's members that have a weight, by their ids."""
    return {i: member for i, member in pool.members_of(team, "val", "test").items() if team.members[i]}


def team_module(pool: Pool, team: Team, *, trust: bool = False) -> TeamModule:
    """The module of a team, with its vote and temperatures.

    Parameters
    ----------
    trust : as in `load_network`

    Raises
    ------
    UserError
        Unknown team, members that are gone or have no weights, models that cannot be built.
    """
    members = voters(pool, team)
    return TeamModule(
        [load_network(pool, member, trust=trust).model for member in members.values()],
        [team.members[member_id] for member_id in members],
        team.vote,
        [team.temperatures.get(member_id, 1.0) for member_id in members],
        mean=pool.task.normalisation["mean"],
        std=pool.task.normalisation["std"],
        classes=len(pool.task.class_names),
    )
