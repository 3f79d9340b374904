"""What a member costs when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.pool.member import Member

# Keys of a record's costs, from the best measure to the worst, and their units in words.
MEASURES = {"flops": "FLOPs per sample", "parameters": "parameters"}


def inference_costs(members: Sequence[Member]) -> tuple[NDArray[Any], str]:
    """Cost of every member (M,) and its unit: FLOPs per sample, or parameters where a record has no FLOPs.

    Where neither is known of all members, each costs 1, and the unit is "members".
    """
    for key, unit in MEASURES.items():
        values = [member.record.costs.get(key) for member in members]
        if all(value is not None for value in values):
            return np.array(values, dtype=np.float64), unit
    return np.ones(len(members)), "members"
