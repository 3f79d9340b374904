"""Learning curves: will this run still reach its target? An upper bound from what was seen and the LR to come.

A curve under an LR policy jumps when the LR falls, so a fit through its past says no too early (STEP, cycles). The
bound is therefore a modest one: on the scale log(a / (1 - a)) the best accuracy so far may still gain

    (GROWTH + own growth) * time left + NOISE * standard error + DROP * log(lowest LR so far / lowest LR to come)

Time left is log(budget / spent), in epochs or in summed LR, whichever is more: a warm-up has done little of the work.
Own growth is the gain per unit of that time over the last half of the epochs. The idea to predict the end of a curve
from its beginning is Domhan et al. 2015; the form and the constants are ours, measured by scripts/measure_verify.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from lrensemble.policies import Policy
from lrensemble.pool import Member, Pool, RunSpec

# Measured, with what they cost and save, in docs/verify.md: chosen for few wrong no's, not for the most saved.
GROWTH = 0.3
NOISE = 1.0
DROP = 0.1
MOST_DROP = 100.0  # a fall of the LR below this share does no more
PATIENCE = 0.2  # of the budget, before any no
FEWEST = 4  # epochs, before any no
MEASURED = (
    "2.6 % (22 of 833 pairs of run and target that reached it; digits and Fashion-MNIST subsets, constants chosen "
    "without the pool they were judged on; docs/verify.md)"
)


@dataclass(frozen=True)
class LearningCurve:
    """Validation accuracy of a run, finished or not.

    Attributes
    ----------
    accuracy : (e,) array
        After every epoch so far.
    lr : (E,) array
        Mean LR of every epoch of the budget, those to come as well.
    rows : int
        Validation rows.
    """

    accuracy: NDArray[np.float64]
    lr: NDArray[np.float64]
    rows: int

    def reaches(self, target: float) -> int | None:
        """First epoch (from 1) with the target's accuracy."""
        good = np.flatnonzero(self.accuracy >= target)
        return int(good[0]) + 1 if len(good) else None


def epoch_lrs(policy: str, steps_per_epoch: int, epochs: int) -> NDArray[np.float64]:
    """Mean LR of every epoch under a policy: (epochs,)."""
    total = steps_per_epoch * epochs
    bound = Policy.parse(policy).bind(steps_per_epoch=steps_per_epoch, total_steps=total)
    lrs: NDArray[np.float64] = bound(np.arange(total)).reshape(epochs, steps_per_epoch).mean(axis=1)
    return lrs


def curve_of(spec: RunSpec, history: Sequence[Mapping[str, Any]], rows: int) -> LearningCurve:
    """The curve of a run as its history has it, with the LR of its whole budget."""
    accuracy = [line.get("val_accuracy") for line in history]
    steps = history[0]["step"] // history[0]["epoch"]
    lrs = epoch_lrs(spec.policy, steps, spec.training.epochs)
    return LearningCurve(np.array([np.nan if a is None else a for a in accuracy], dtype=np.float64), lrs, rows)


def finished_curves(pool: Pool, epochs: int | None = None) -> list[LearningCurve]:
    """Curves of all complete runs of a pool and its control (of one budget, if `epochs` says so)."""
    curves = []
    for part in (pool, pool.control):
        for member in part.without_damaged(part.runs, Member.history) if part else []:
            record = member.record
            spec = RunSpec.of(record.followed)
            if record.status == "complete" and epochs in (None, spec.training.epochs):
                curves.append(curve_of(spec, member.history(), pool.task.rows["val"]))
    return curves


def upper_bound(curve: LearningCurve) -> float:
    """The accuracy that the run will hardly exceed within its budget; needs two epochs."""
    seen, total = len(curve.accuracy), len(curve.lr)
    logits = logit((curve.accuracy * curve.rows + 0.5) / (curve.rows + 1))  # half a row more of each: finite
    best, top = float(logits.max()), float(curve.accuracy.max())
    half = max(1, seen // 2)
    growth = (best - float(logits[:half].max())) / math.log(seen / half)
    spent = np.cumsum(curve.lr)
    ahead = total > seen and spent[seen - 1] > 0
    time = max(math.log(total / seen), math.log(spent[-1] / spent[seen - 1]) if ahead else 0.0)
    error = 1 / math.sqrt(max(curve.rows * top * (1 - top), 0.5))  # of the best, on this scale
    past, to_come = curve.lr[:seen].min(), curve.lr[seen:].min(initial=math.inf)
    drop = math.log(min(max(past / to_come, 1.0), MOST_DROP)) if to_come > 0 else math.log(MOST_DROP)
    return float(expit(best + (GROWTH + growth) * time + NOISE * error + DROP * drop))


def is_hopeless(curve: LearningCurve, target: float) -> bool:
    """True when the target is beyond what the curve can still reach."""
    seen, total = len(curve.accuracy), len(curve.lr)
    if seen < max(FEWEST, math.ceil(PATIENCE * total)) or curve.reaches(target):
        return False
    return bool(np.isfinite(curve.accuracy).all()) and upper_bound(curve) < target


@dataclass(frozen=True)
class Backtest:
    """What the rule would have said of finished runs.

    Attributes
    ----------
    runs, reached, wrong : int
        Runs; those that reached the target; those among them that it would have given up before.
    saved : float
        Share of the epochs that it would have saved of the runs that did not reach it; 0 where there are none.
    """

    runs: int
    reached: int
    wrong: int
    saved: float


def gives_up(curve: LearningCurve, target: float) -> int | None:
    """The epoch after which a finished run would have been given up, before it reached the target if it did."""
    last = (curve.reaches(target) or len(curve.accuracy)) - 1
    seen = ((epoch, replace(curve, accuracy=curve.accuracy[:epoch])) for epoch in range(FEWEST, last + 1))
    return next((epoch for epoch, part in seen if is_hopeless(part, target)), None)


def backtest(curves: Iterable[LearningCurve], target: float) -> Backtest:
    """Apply the rule to finished runs."""
    reached = wrong = 0
    saved: list[float] = []
    for curve in curves:
        epoch = gives_up(curve, target)
        if curve.reaches(target):
            reached += 1
            wrong += epoch is not None
        else:
            saved.append(1 - epoch / len(curve.lr) if epoch else 0.0)
    return Backtest(reached + len(saved), reached, wrong, float(np.mean(saved)) if saved else 0.0)
