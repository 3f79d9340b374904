"""Who is in a team and why: what the team loses when one member is taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.metrics import correct_rows, nll_rows
from lrensemble.pool import Pool, Team
from lrensemble.selection import team_vote

WORK = 5e9  # probabilities to add up, on each split: seconds


@dataclass(frozen=True)
class Loss:
    """What a team loses without one member: points of accuracy, and nats of NLL; positive = the member helps."""

    accuracy: float
    nll: float | None  # None where members that give labels take part


@dataclass(frozen=True)
class Seat:
    """One member of the report's team, and what the team loses without it (None: not tried)."""

    member: int  # number
    weight: float
    temperature: float | None
    val: Loss | None
    test: Loss | None


def leave_one_out(
    predictions: Any, weights: Array, labels: Array, vote: str, temperatures: Array | None, hard: bool = False
) -> dict[int, Loss]:
    """The loss for each member of a team of two or more, the others' weights scaled up to sum 1.

    In a very large team only for the members with the largest weights, as many as `WORK` allows.

    Parameters
    ----------
    predictions : (S, N, C) array, or a sequence of (N, C) arrays with a ``shape``
    weights, temperatures : (S,) arrays
    hard : members that give labels take part, and there is no NLL
    """
    members, rows, classes = predictions.shape
    if members < 2:
        return {}

    def scores(w: Array) -> Array:
        cast = team_vote(predictions, w, vote, temperatures)
        return np.array([100 * correct_rows(cast, labels).mean(), -nll_rows(cast, labels).mean()])

    whole = scores(weights)
    affordable = max(1, int(WORK / (members * rows * classes)))
    losses = {}
    for i in np.argsort(-weights, kind="stable")[:affordable]:
        accuracy, nll = whole - scores(np.where(np.arange(members) == i, 0.0, weights))
        losses[int(i)] = Loss(float(accuracy), None if hard else float(nll))
    return losses


def seats_of(pool: Pool, team: Team, numbers: dict[str, int], labels: dict[str, Array]) -> list[Seat]:
    """The members of the team, the largest weight first."""
    ids = sorted(team.members, key=lambda i: (-team.members[i], numbers[i]))
    weights = np.array([team.members[i] for i in ids])
    temperatures = np.array([team.temperatures[i] for i in ids]) if team.temperatures else None
    known = pool.members_of(team, *labels)
    members = [known[i] for i in ids]
    hard = any(member.record.is_labels for member in members)
    losses = {
        split: leave_one_out(pool.predictions(split, members), weights, labels[split], team.vote, temperatures, hard)
        for split in labels
    }
    return [
        Seat(numbers[i], team.members[i], team.temperatures.get(i), losses["val"].get(k), losses["test"].get(k))
        for k, i in enumerate(ids)
    ]
