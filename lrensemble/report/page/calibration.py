"""How far the confidence of the team and of the best single member can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.evaluation.teams import Entry, vote
from lrensemble.metrics import expected_calibration_error, reliability, share_interval
from lrensemble.pool import Member, Pool, Team


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
        votes[team.name] = vote(Entry.of(team), pool.predictions("test", members))
    curves = []
    for name, probabilities in votes.items():
        bins = reliability(probabilities, labels)
        ece = expected_calibration_error(probabilities, labels)
        rows, accuracy = bins.counts.tolist(), bins.accuracy.tolist()
        intervals = [share_interval(round(share * n), n) for share, n in zip(accuracy, rows, strict=True)]
        curves.append(ReliabilityCurve(name, ece, rows, bins.confidence.tolist(), accuracy, intervals))
    return curves
