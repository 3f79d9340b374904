"""Finished runs: what the database keeps of one, what a search wants of it, and those of a pool to learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.policies import Policy
from lrensemble.policies.units import steps_per_epoch
from lrensemble.pool import Member, Pool, RunSpec
from lrensemble.pool.record import Record
from lrensemble.recommend.features import configuration, total_steps
from lrensemble.recommend.setting import Setting
from lrensemble.recommend.space import parameters_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

MOST_INTERMEDIATE = 100  # values of one run that pruners see; a longer run is thinned, at the same epochs for all


@dataclass(frozen=True)
class FinishedRun:
    """What is known of one finished run. All accuracies are of the validation split.

    Attributes
    ----------
    status : complete, diverged, stopped
    chance : accuracy of guessing
    curve : one line per evaluation: epoch, step, seconds of training, validation accuracy
    val : metrics of the final model on validation (accuracy, nll, brier, ece); empty unless complete
    train : loss and accuracy over the last epoch of training, as it ran
    """

    member: str
    policy: str
    seed: int
    status: str
    reason: str | None
    pool: str
    val_rows: int
    chance: float
    val: dict[str, float | None]
    train: dict[str, float | None]
    costs: dict[str, float]
    curve: list[list[float]] = field(repr=False)

    @property
    def is_complete(self) -> bool:
        return self.status == "complete"

    @property
    def accuracy(self) -> float | None:
        return self.val.get("accuracy")

    @property
    def loss_difference(self) -> float | None:
        """Validation NLL minus training loss (LRBench: how much it overfits)."""
        nll, loss = self.val.get("nll"), self.train.get("loss")
        return None if nll is None or loss is None else nll - loss

    def reached(self, target: float) -> list[float] | None:
        """The first line of the curve at or above `target`; None: never."""
        return next((line for line in self.curve if line[3] >= target), None)


@dataclass(frozen=True)
class Objective:
    """What a search looks for, on validation: the highest accuracy (target None), or the fewest steps to a target."""

    target: float | None = None

    @property
    def direction(self) -> str:
        return "maximize" if self.target is None else "minimize"

    @property
    def order(self) -> str:
        """Its order among those of `ranking.ORDERS`."""
        return "accuracy" if self.target is None else "iterations-to-target"

    def study(self, task: Setting) -> str:
        return task.study if self.target is None else f"{task.study} steps to {self.target:g}"

    def shown(self, accuracy: float) -> float:
        """A validation accuracy on the way, as pruners compare it."""
        return accuracy if self.target is None else 1 - accuracy

    def value(self, run: FinishedRun) -> float | None:
        """Of a run that can be judged; None for the others, which diverged or were stopped on their way.

        A complete run that missed the target has all of its steps and more, the more the further it stayed away.
        """
        if self.target is None:
            return run.accuracy if run.is_complete else None
        if line := run.reached(self.target):
            return line[1]
        if not run.is_complete or not run.curve:
            return None
        best = max(line[3] for line in run.curve)
        return run.curve[-1][1] * (1 + self.target - best)


def why_not(record: Record) -> str | None:
    """Why a member is no record of the database; None when it is one."""
    if record.status not in ("complete", "diverged", "stopped"):
        return "not finished"
    if record.spec.derived is not None:
        return "snapshots and averages: their policy was made for the whole run"
    if record.spec.policy is None:
        return "no policy known"
    return None


def run_of(pool: Pool, member: Member) -> FinishedRun:
    """The run that a finished member is."""
    record = member.record
    curve = [
        [line["epoch"], line["step"], line["seconds"], line["val_accuracy"]]
        for line in member.history()
        if all(_is_finite(line.get(key)) for key in ("epoch", "step", "seconds", "val_accuracy"))
    ]
    return FinishedRun(
        member=member.id,
        policy=record.followed.policy or "",
        seed=record.spec.seed,
        status=record.status,
        reason=record.reason,
        pool=str(pool.path.absolute()),
        val_rows=pool.task.rows["val"],
        chance=pool.chance("val"),
        val=record.val if record.status == "complete" else {},
        train={name: value if _is_finite(value) else None for name, value in record.metrics.get("train", {}).items()},
        costs={name: value for name, value in record.costs.items() if _is_finite(value)},
        curve=curve,
    )


def read_run(trial: FrozenTrial) -> FinishedRun | None:
    """The run that a trial records; None for one that is not finished, or none of ours."""
    data = trial.user_attrs.get("run")
    if not isinstance(data, dict) or not trial.state.is_finished():
        return None
    if "classes" in data:  # of older versions
        data = {**data, "chance": 1 / data["classes"]}
        del data["classes"]
    return FinishedRun(**data)


def attributes(run: FinishedRun) -> dict[str, Any]:
    """User attributes of the trial of a run: the lossless policy, and what the dashboard shows in columns."""
    found = {"member": run.member, "policy": run.policy, "seed": run.seed, "status": run.status, "pool": run.pool}
    if run.reason:
        found["reason"] = run.reason
    found |= {name: value for name, value in run.val.items() if value is not None}
    return {**found, "run": asdict(run)}


def every(epochs: int) -> int:
    """Epochs between two accuracies that pruners see."""
    return max(1, -(-epochs // MOST_INTERMEDIATE))


def trial_parameters(
    run: FinishedRun, task: Setting, train_rows: int
) -> dict[str, tuple[float | str, BaseDistribution]]:
    """The policy as parameters; none where the budget is not known (a loop that logged nothing)."""
    if task.epochs and task.batch_size:
        steps = steps_per_epoch(train_rows, task.batch_size)
        total = steps * task.epochs
    elif run.curve:
        epoch, total = run.curve[-1][0], int(run.curve[-1][1])
        steps = max(1, round(total / max(epoch, 1)))
    else:
        return {}
    try:
        return parameters_of(Policy.parse(run.policy), steps_per_epoch=steps, total_steps=max(total, 1))
    except UserError:  # boundaries that cross in this budget
        return {}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# Runs of a pool to learn from.


def read_runs(pool: Pool, *splits: str) -> list[Member]:
    """The finished runs of a pool, with whole predictions of `splits`; `UserError` where none has a policy."""
    members = pool.whole(pool.runs, *splits)
    if not members:
        total = len(pool.members)
        what = f"none of its {total} members is a finished run of lrensemble train" if total else "it is empty"
        raise UserError(
            f"{pool.path}: nothing to learn from: {what}. What to train next is learned from LR policies and what "
            "came of them: lrensemble train CONFIG first, or lrensemble propose CONFIG --train, which does both"
        )
    return members


def followed(members: Sequence[Member]) -> list[RunSpec]:
    """What runs of our trainer did: their specs, with the policy that a controller's choices came to."""
    return [RunSpec.of(member.record.followed) for member in members]


def are_complete(members: Sequence[Member]) -> Array:
    """(M,) bool; the others diverged or were stopped."""
    return np.array([member.record.status == "complete" for member in members])


def took(members: Sequence[Member]) -> Array:
    """(M,) seconds that training took; NaN for runs that are not complete, or do not say."""
    records = [member.record for member in members]
    return np.array([float(r.costs.get("seconds", np.nan)) if r.status == "complete" else np.nan for r in records])


def expected_seconds(known: Sequence[RunSpec], took: Array, specs: Sequence[RunSpec], train_rows: int) -> Array:
    """Seconds that training each of `specs` takes: those that runs `known` took per sample, of the nearest kind.

    The median over runs of the same configuration, else of the same model, else of all; 1 where `took` is all NaN.
    """
    paces = [
        (configuration(spec), float(seconds) / _samples(spec, train_rows))
        for spec, seconds in zip(known, took, strict=True)
        if not np.isnan(seconds)
    ]
    if not paces:
        return np.ones(len(specs))

    def pace(spec: RunSpec) -> float:
        mine = configuration(spec)
        same = [seconds for other, seconds in paces if other == mine]
        similar = [seconds for other, seconds in paces if other[0] == mine[0]]
        return float(np.median(same or similar or [seconds for _, seconds in paces]))

    return np.array([pace(spec) * _samples(spec, train_rows) for spec in specs])


def _samples(spec: RunSpec, train_rows: int) -> float:
    return float(total_steps(spec, train_rows)[1] * spec.training.batch_size)
