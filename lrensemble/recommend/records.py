"""A finished member as a record of the policy database: a finished trial of its task's study, and back."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lrensemble.errors import UserError
from lrensemble.policies import Policy
from lrensemble.policies.units import steps_per_epoch
from lrensemble.pool import Member, Pool
from lrensemble.pool.record import Record
from lrensemble.recommend.space import parameters_of
from lrensemble.recommend.task import Task

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

MOST_INTERMEDIATE = 100  # values of one run that pruners see; a longer run is thinned, at the same epochs for all
FINISHED_RUN = "complete"


@dataclass(frozen=True)
class Run:
    """What is known of one finished run. All accuracies are of the validation split.

    Attributes
    ----------
    status : complete, diverged, stopped
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
    classes: int
    val: dict[str, float | None]
    train: dict[str, float | None]
    costs: dict[str, float]
    curve: list[list[float]] = field(repr=False)

    @property
    def is_complete(self) -> bool:
        return self.status == FINISHED_RUN

    @property
    def accuracy(self) -> float | None:
        return self.val.get("accuracy")

    @property
    def loss_difference(self) -> float | None:
        """Validation NLL minus training loss (LRBench: how much it overfits)."""
        nll, loss = self.val.get("nll"), self.train.get("loss")
        return None if nll is None or loss is None else nll - loss

    def reached(self, target: float) -> tuple[float, float] | None:
        """Step and seconds of the first evaluation at or above `target`; None: never."""
        return next(((step, seconds) for _, step, seconds, accuracy in self.curve if accuracy >= target), None)


def why_not(record: Record) -> str | None:
    """Why a member is no record of the database; None when it is one."""
    if record.status not in ("complete", "diverged", "stopped"):
        return "not finished"
    if record.spec.derived is not None:
        return "snapshots and averages: their policy was made for the whole run"
    if record.spec.policy is None:
        return "no policy known"
    return None


def run_of(pool: Pool, member: Member) -> Run:
    """The run that a finished member is."""
    record = member.record
    curve = [
        [line["epoch"], line["step"], line["seconds"], line["val_accuracy"]]
        for line in member.history()
        if all(_is_finite(line.get(key)) for key in ("epoch", "step", "seconds", "val_accuracy"))
    ]
    return Run(
        member=member.id,
        policy=record.followed.policy or "",
        seed=record.spec.seed,
        status=record.status,
        reason=record.reason,
        pool=str(pool.path.absolute()),
        val_rows=pool.task.rows["val"],
        classes=len(pool.task.class_names),
        val=record.val if record.status == FINISHED_RUN else {},
        train={name: value if _is_finite(value) else None for name, value in record.metrics.get("train", {}).items()},
        costs={name: value for name, value in record.costs.items() if _is_finite(value)},
        curve=curve,
    )


def read_run(trial: FrozenTrial) -> Run | None:
    """The run that a trial records; None for one that is not finished, or none of ours."""
    data = trial.user_attrs.get("run")
    return Run(**data) if isinstance(data, dict) and trial.state.is_finished() else None


def attributes(run: Run) -> dict[str, Any]:
    """User attributes of the trial of a run: the lossless policy, and what the dashboard shows in columns."""
    found = {"member": run.member, "policy": run.policy, "seed": run.seed, "status": run.status, "pool": run.pool}
    if run.reason:
        found["reason"] = run.reason
    found |= {name: value for name, value in run.val.items() if value is not None}
    return {**found, "run": asdict(run)}


def every(epochs: int) -> int:
    """Epochs between two accuracies that pruners see."""
    return max(1, -(-epochs // MOST_INTERMEDIATE))


def trial_parameters(run: Run, task: Task, train_rows: int) -> dict[str, tuple[float | str, BaseDistribution]]:
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
