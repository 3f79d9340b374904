"""How far the confidence of the team and of the best single member can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from lrensemble.array import Array
from lrensemble.metrics import expected_calibration_error, reliability, share_interval
from lrensemble.report.page.changes import TestVote


@dataclass(frozen=True)
class ReliabilityCurve:
    """Bins of a reliability diagram on the test split; empty ones are left out."""

    name: str
    ece: float
    rows: list[int]
    confidence: list[float]
    accuracy: list[float]
    interval: list[tuple[float, float]]  # 95 %, Wilson, of the accuracy


def calibration_of(votes: list[TestVote], labels: Array) -> list[ReliabilityCurve]:
    """Of the best single member and the team; labels alone have no confidence, and no curve."""
    curves = []
    for vote in votes:
        if vote.is_hard:
            continue
        name, probabilities = vote.name, vote.probabilities
        bins = reliability(probabilities, labels)
        ece = expected_calibration_error(probabilities, labels)
        rows, accuracy = bins.counts.tolist(), bins.accuracy.tolist()
        intervals = [share_interval(round(share * n), n) for share, n in zip(accuracy, rows, strict=True)]
        curves.append(ReliabilityCurve(name, ece, rows, bins.confidence.tolist(), accuracy, intervals))
    return curves
