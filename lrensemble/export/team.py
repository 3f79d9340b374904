"""A team of a pool as a module."""

from __future__ import annotations

from lrensemble.errors import UserError, did_you_mean
from lrensemble.evaluation.network import load_network
from lrensemble.export.module import TeamModule
from lrensemble.pool import Member, Pool, Team


def resolve(pool: Pool, team: Team | str) -> tuple[Team, dict[str, Member]]:
    """A team and its members that have a weight, by their ids; `UserError` where they are gone or of other data."""
    team = pool.team(team) if isinstance(team, str) else team
    if team.data_fingerprint != pool.task.data_fingerprint:
        raise UserError(f"team {team.name} was selected on other data than {pool.path} holds: select again")
    known = {member.id: member for member in pool.usable("val", "test")}
    wanted = [member_id for member_id, weight in team.members.items() if weight]
    if missing := [member_id for member_id in wanted if member_id not in known]:
        if missing[0] in pool.left_out:
            raise UserError(f"team {team.name} needs member {missing[0]}: {pool.left_out[missing[0]]}")
        raise UserError(
            f"member {missing[0]} of team {team.name} is not in {pool.path} any more: select again. "
            f"{did_you_mean(missing[0], known)}"
        )
    return team, {member_id: known[member_id] for member_id in wanted}


def team_module(pool: Pool, team: Team | str, *, trust: bool = False) -> TeamModule:
    """The module of a team, with its vote and temperatures.

    Parameters
    ----------
    trust : as in `load_network`

    Raises
    ------
    UserError
        Unknown team, members that are gone or have no weights, models that cannot be built.
    """
    team, members = resolve(pool, team)
    return TeamModule(
        [load_network(pool, member, trust=trust).model for member in members.values()],
        [team.members[member_id] for member_id in members],
        team.vote,
        [team.temperatures.get(member_id, 1.0) for member_id in members],
        mean=pool.task.normalisation["mean"],
        std=pool.task.normalisation["std"],
        classes=len(pool.task.class_names),
    )
