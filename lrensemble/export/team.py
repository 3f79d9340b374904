"""A team of a pool as a module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lrensemble.evaluation.network import Network, load_network
from lrensemble.export.module import TeamModule
from lrensemble.pool import Member, Pool, Team
from lrensemble.tasks import Task
from lrensemble.tasks.inputs import Normalise


def voters(pool: Pool, team: Team) -> dict[str, Member]:
    """The team's members that have a weight, by their ids."""
    return {i: member for i, member in pool.members_of(team, "val", "test").items() if team.members[i]}


def team_module(pool: Pool, team: Team, *, trust: bool = False, task: Task | None = None) -> TeamModule:
    """The module of a team, with its vote and temperatures.

    Parameters
    ----------
    trust, task : as in `load_network`

    Raises
    ------
    UserError
        Unknown team, members that are gone or have no weights, models that cannot be built.
    """
    members = voters(pool, team)
    return module_of(
        [load_network(pool, member, trust=trust, task=task) for member in members.values()],
        [team.members[member_id] for member_id in members],
        team.vote,
        [team.temperatures.get(member_id, 1.0) for member_id in members],
        classes=len(pool.task.class_names),
        choices=pool.choices("test") is not None,
    )


def module_of(
    networks: Sequence[Network],
    weights: Sequence[float],
    vote: str,
    temperatures: Sequence[float],
    *,
    classes: int,
    choices: bool = False,
) -> TeamModule:
    """Networks of one pool as a team; normalisation that they share is done once."""
    inputs, shape = networks[0].inputs, networks[0].shape
    values = {"mean": [0.0] * (shape or (1,))[0], "std": [1.0] * (shape or (1,))[0]}
    models: Sequence[nn.Module] = networks
    if networks[0].is_plain:
        assert isinstance(inputs, Normalise)
        models, values = [network.model for network in networks], inputs.values
    return TeamModule(models, weights, vote, temperatures, **values, shape=shape, classes=classes, choices=choices)
