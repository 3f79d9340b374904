"""What a member costs when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.pool.energy import training_joules
from lrensemble.pool.member import Member

# Keys of a record's costs, from the best measure to the worst, and their units in words.
MEASURES = {"flops": "FLOPs per sample", "parameters": "parameters"}
# Of spiking networks, per inference, by NeuroBench's names (`lrensemble.tasks.events.operations`).
OPERATIONS = {
    "acs": "effective ACs (one for every spike and synapse)",
    "effective_macs": "effective MACs",
    "dense_macs": "dense MACs",
    "spikes": "spikes",
}


def inference_costs(members: Sequence[Member], measure: str | None = None) -> tuple[NDArray[Any], str]:
    """Cost of every member (M,) and its unit: FLOPs per sample, or parameters where a record has no FLOPs.

    Where neither is known of all members, each costs 1, and the unit is "members". `measure` asks for another one, by
    its name or unit: ``energy`` (of training, in joules), or a cost that all records have (cpu_seconds, acs, ...);
    ``synops`` are the acs.
    """
    measure = "acs" if measure and measure.lower() == "synops" else measure
    if measure not in (None, "members"):  # also by its unit, as teams keep it
        key = next((key for key, unit in MEASURES.items() if measure in (key, unit)), measure)
        return _asked(members, str(key)), MEASURES.get(str(key), str(key))
    for key, unit in MEASURES.items():
        values = [member.record.costs.get(key) for member in members]
        if all(value is not None for value in values):
            return np.array(values, dtype=np.float64), unit
    return np.ones(len(members)), "members"


def _asked(members: Sequence[Member], measure: str) -> NDArray[Any]:
    costs = [dict(member.record.costs) for member in members]
    for values, joules in zip(costs, training_joules(members), strict=True):
        values |= {} if joules is None else {"energy": joules}
    known = set.intersection(*map(set, costs)) if costs else set()
    if measure not in known:
        raise UserError(f"cost = {measure} is not known of all members: {did_you_mean(measure, known)}")
    return np.array([values[measure] for values in costs], dtype=np.float64)
