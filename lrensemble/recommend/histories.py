"""Learning curves of the runs of a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrensemble.pool import Member, Pool, RunSpec
from lrensemble.recommend.curves import Curve, epoch_lrs


def curve_of(spec: RunSpec, history: Sequence[Mapping[str, Any]], rows: int) -> Curve:
    """The curve of a run as its history has it, with the LR of its whole budget."""
    accuracy = [line.get("val_accuracy") for line in history]
    steps = history[0]["step"] // history[0]["epoch"]
    lrs = epoch_lrs(spec.policy, steps, spec.training.epochs)
    return Curve(np.array([np.nan if a is None else a for a in accuracy], dtype=np.float64), lrs, rows)


def finished_curves(pool: Pool, epochs: int | None = None) -> list[Curve]:
    """Curves of all complete runs of a pool and its control (of one budget, if `epochs` says so)."""
    curves = []
    for part in (pool, pool.control):
        for member in part.without_damaged(part.runs, Member.history) if part else []:
            record = member.record
            spec = RunSpec.of(record.followed)
            if record.status == "complete" and epochs in (None, spec.training.epochs):
                curves.append(curve_of(spec, member.history(), pool.task.rows["val"]))
    return curves
