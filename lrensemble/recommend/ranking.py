"""The policies of one task, best first: means over seeds with their uncertainty. Pure functions of its runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrensemble.errors import UserError
from lrensemble.metrics import standard_error, t_interval
from lrensemble.policies import Policy
from lrensemble.recommend.runs import FinishedRun
from lrensemble.recommend.setting import Setting

GRID = 257  # points of the budget at which two curves are compared
WITHIN = 10.0  # LRBench scales by 0.1 to 10


@dataclass(frozen=True)
class Robustness:
    """Validation accuracy of a policy's curve over the LR factors that were trained, its own included.

    Attributes
    ----------
    factors : of the policy's LR, ascending; within a factor of `WITHIN`
    mean, worst : accuracy over the factors; a diverged run counts as chance
    """

    factors: tuple[float, ...]
    mean: float
    worst: float


@dataclass(frozen=True)
class Row:
    """One policy: what its runs say. Everything is of the validation split (`rows` rows).

    Attributes
    ----------
    n : complete runs, with different seeds; accuracy, nll, loss_difference and seconds are means over them
    sd : standard deviation of the accuracy over seeds (None with one)
    se : standard error of the accuracy by the rows of validation alone (binomial)
    interval : 95 % t-interval of the mean accuracy over seeds, within 0 to 1; says nothing of other rows
    asked, reached : runs that could tell of the target, and those that reached it
    steps, seconds_to : means over the runs that reached it
    """

    policy: str
    n: int
    diverged: int
    stopped: int
    rows: int
    accuracy: float | None
    sd: float | None
    se: float | None
    interval: tuple[float, float] | None
    nll: float | None
    loss_difference: float | None
    seconds: float | None
    asked: int
    reached: int
    steps: float | None
    seconds_to: float | None
    robustness: Robustness | None


LAST = math.inf
ORDERS: dict[str, Callable[[Row], tuple[float, ...]]] = {
    "accuracy": lambda r: (-r.accuracy if r.accuracy is not None else LAST, r.nll or 0.0),
    "nll": lambda r: (r.nll if r.nll is not None else LAST,),
    # A policy that misses the target with some seeds comes after all that never do.
    "iterations-to-target": lambda r: (-r.reached / r.asked if r.asked else LAST, r.steps or 0.0),
    "seconds": lambda r: (-r.reached / r.asked if r.asked else LAST, r.seconds_to or 0.0),
    "robustness": lambda r: (
        -r.robustness.mean if r.robustness else LAST,
        -r.accuracy if r.accuracy is not None else LAST,
    ),
}


def check_target(target: float) -> None:
    """Raise `UserError` for a target that is no accuracy."""
    if not 0 < target <= 1:
        hint = f": write {target / 100:g} for {target:g} %" if 1 < target <= 100 else ""
        raise UserError(f"target = {target:g} is not possible: an accuracy is above 0 and at most 1{hint}")


def default_target(runs: Sequence[FinishedRun]) -> float | None:
    """The median final accuracy of the complete runs, in steps of 0.001, rounded down: half of them reach it."""
    accuracies = [run.accuracy for run in runs if run.accuracy is not None]
    return math.floor(float(np.median(accuracies)) * 1000 + 1e-9) / 1000 if accuracies else None


def rank(task: Setting, runs: Sequence[FinishedRun], by: str, target: float | None = None) -> list[Row]:
    """One row for every policy, best first by an order of `ORDERS`."""
    of_policy: dict[str, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        of_policy[run.policy].append(run)
    line = next((run.curve[-1] for run in runs if run.curve), None)
    scaled: dict[str, Robustness] = {}
    if line is not None:
        steps_per_epoch = max(1, round(line[1] / max(line[0], 1)))
        total = (
            steps_per_epoch * task.epochs if task.epochs else max(int(run.curve[-1][1]) for run in runs if run.curve)
        )
        scaled = robustness(runs, steps_per_epoch, total)
    rows = [_row(policy, some, target, scaled.get(policy)) for policy, some in of_policy.items()]
    return sorted(rows, key=lambda row: (*ORDERS[by](row), row.policy))


def _row(policy: str, runs: list[FinishedRun], target: float | None, scaled: Robustness | None) -> Row:
    complete = [run for run in runs if run.is_complete]
    accuracies = [run.accuracy for run in complete if run.accuracy is not None]
    accuracy = float(np.mean(accuracies)) if accuracies else None
    several = len(accuracies) > 1
    # A run that was stopped before it reached the target might have: it cannot tell.
    reached = [line for run in runs if target is not None and (line := run.reached(target))]
    asked = 0 if target is None else sum(1 for run in runs if run.status != "stopped" or run.reached(target))
    asked = asked if any(run.curve for run in runs) or any(run.status == "diverged" for run in runs) else 0
    rows = runs[0].val_rows
    return Row(
        policy=policy,
        n=len(complete),
        diverged=sum(run.status == "diverged" for run in runs),
        stopped=sum(run.status == "stopped" for run in runs),
        rows=rows,
        accuracy=accuracy,
        sd=float(np.std(accuracies, ddof=1)) if several else None,
        se=standard_error(accuracy, rows) if accuracy is not None else None,
        interval=_within_one(t_interval(accuracies)),
        nll=_mean([run.val.get("nll") for run in complete]),
        loss_difference=_mean([run.loss_difference for run in complete]),
        seconds=_mean([run.costs.get("seconds") for run in complete]),
        asked=asked,
        reached=len(reached),
        steps=_mean([step for _, step, _, _ in reached]),
        seconds_to=_mean([seconds for _, _, seconds, _ in reached]),
        robustness=scaled,
    )


def _within_one(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    """Of few seeds a t-interval goes beyond what an accuracy can be."""
    return interval and (max(interval[0], 0.0), min(interval[1], 1.0))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


# How a policy stands other LRs: runs whose policies differ by a factor (LRBench's base-LR scaling).


def shape_and_peak(text: str, steps_per_epoch: int, total_steps: int) -> tuple[bytes, float] | None:
    """A policy's shape (equal for equal curves up to a factor) and its peak LR; None where there is none."""
    policy = Policy.parse(text).bind(steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    lr = policy(np.linspace(0, max(total_steps - 1, 1), GRID).round())
    peak = float(lr.max())
    return (np.round(lr / peak, 6).tobytes(), peak) if peak > 0 else None


def robustness(runs: Iterable[FinishedRun], steps_per_epoch: int, total_steps: int) -> dict[str, Robustness]:
    """Of every policy that was trained with two or more factors; by its text."""
    accuracies: dict[bytes, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    parts: dict[str, tuple[bytes, float]] = {}
    for run in runs:
        if run.policy not in parts:
            found = shape_and_peak(run.policy, steps_per_epoch, total_steps)
            if found is None:
                continue
            parts[run.policy] = found
        shape, peak = parts[run.policy]
        if run.accuracy is not None:
            accuracies[shape][_key(peak)].append(run.accuracy)
        elif run.status == "diverged":
            accuracies[shape][_key(peak)].append(run.chance)
    return {
        text: one
        for text, (shape, peak) in parts.items()
        if (one := _over_factors(accuracies[shape], peak)) is not None
    }


def _over_factors(accuracies: Mapping[float, list[float]], peak: float) -> Robustness | None:
    own, slack = _key(peak), 1 + 1e-9
    near = {p: values for p, values in accuracies.items() if max(p / own, own / p) <= WITHIN * slack}
    if len(near) < 2:
        return None
    means = [float(np.mean(near[p])) for p in sorted(near)]
    factors = tuple(float(f"{p / peak:.3g}") for p in sorted(near))
    return Robustness(factors, float(np.mean(means)), min(means))


def _key(peak: float) -> float:
    """Peaks that are equal up to rounding are one."""
    return float(f"{peak:.6g}")
