"""How far the confidence of the team and of the best single member can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.metrics import expected_calibration_error, reliability, share_interval
from lrensemble.pool import Member, Pool, Team
from lrensemble.selection import team_vote

Array = NDArray[Any]


@dataclass(frozen=True)
class ReliabilityCurve:
    """Bins of a reliability diagram on the test split; empty ones are left out."""

    name: str
    ece: float
    rows: list[int]
    confidence: list[float]
    accuracy: list[float]
    interval: list[tuple[float, float]]  # 95 %, Wilson, of the accuracy


def calibration_of(pool: Pool, team: Team | None, best: Member, labels: Array) -> list[ReliabilityCurve]:
    """Of the best single member and the team; labels alone have no confidence, and no curve."""
    votes = {} if best.record.is_labels else {"best single": np.asarray(pool.predictions("test", [best])[0])}
    members = list(pool.members_of(team, "test").values()) if team else []
    if team and len(members) > 1 and not any(member.record.is_labels for member in members):
        temperatures = np.array([team.temperatures[i] for i in team.members]) if team.temperatures else None
        weights = np.array(list(team.members.values()))
        votes[team.name] = team_vote(pool.predictions("test", members), weights, team.vote, temperatures)
    curves = []
    for name, vote in votes.items():
        bins = reliability(vote, labels)
        ece = expected_calibration_error(vote, labels)
        rows, accuracy = bins.counts.tolist(), bins.accuracy.tolist()
        intervals = [share_interval(round(share * n), n) for share, n in zip(accuracy, rows, strict=True)]
        curves.append(ReliabilityCurve(name, ece, rows, bins.confidence.tolist(), accuracy, intervals))
    return curves
