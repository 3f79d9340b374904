"""What a configuration will train and what that takes, checked before anything is written."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lrensemble.errors import UserError, first_line
from lrensemble.metrics import load_metric, register_metrics, try_metric
from lrensemble.models import MemoryLimit
from lrensemble.own import calling, is_own, raised, untrusted
from lrensemble.policies import Controlled, parse_schedule
from lrensemble.policies.units import steps_per_epoch
from lrensemble.pool import Member, MemberSpec, Named, RunSpec
from lrensemble.pool.pool import CONTROL
from lrensemble.pool.record import FINISHED
from lrensemble.pool.sizes import size_text
from lrensemble.tasks import Task, load_task
from lrensemble.tasks.rows import check_rows, preparer, raw_batches
from lrensemble.tasks.sources import check_local
from lrensemble.training.config import MAX_RUNS, Config
from lrensemble.training.derived import check_average, snapshot_epochs
from lrensemble.training.frozen import trainable_model
from lrensemble.training.optimizer import build_optimizer
from lrensemble.training.probing import check_probing
from lrensemble.training.stack import stack_size

STATE_COPIES = 3  # weights and two moments, the most that common optimizers keep
LINE_BYTES = 250  # one line of the history
UNTRUSTED = 2**30  # bytes that a model and a step of it take at most where a file from elsewhere names it


@dataclass(frozen=True)
class PlannedRun:
    """A run, its snapshots and averages, and a model like its own (runs with equal models share one)."""

    spec: RunSpec
    derived: tuple[MemberSpec, ...]
    model: nn.Module

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


@dataclass(frozen=True)
class Plan:
    """The runs of one configuration, and the members that come of them."""

    config: Config
    pool: Path
    task: Task
    runs: tuple[PlannedRun, ...]
    alone: bool = False  # runs that answer a question: the pool keeps the configuration that it has
    notes: tuple[str, ...] = ()  # what people should know before they train

    @property
    def specs(self) -> list[RunSpec]:
        """Of the runs."""
        return [run.spec for run in self.runs]

    @property
    def members(self) -> list[tuple[PlannedRun, MemberSpec]]:
        """All members: the run that each comes of, and the spec."""
        return [(run, spec) for run in self.runs for spec in (run.spec, *run.derived)]

    @property
    def ids(self) -> list[str]:
        """Of all members."""
        return [spec.id(self.task.fingerprint) for _, spec in self.members]

    @property
    def statuses(self) -> list[str]:
        """Status of every member, ``new`` for those that the pool does not have."""
        members = [Member(self.pool / "members" / member_id) for member_id in self.ids]
        return [member.status if member.record_path.exists() else "new" for member in members]

    @property
    def todo(self) -> list[int]:
        """Numbers of the members that are not finished."""
        return [i for i, status in enumerate(self.statuses) if status not in FINISHED]

    def of(self, specs: Iterable[RunSpec], *, alone: bool = False) -> Plan:
        """The plan for other runs of the same task and models; `alone`: no snapshots, averages and control.

        Raises `UserError` for a model that is none of this plan's: what a pool's files name is not built for that.
        """
        models = {_model_key(run.spec): run.model for run in self.runs}
        runs = []
        for spec in specs:
            model = models.get(_model_key(spec))
            if model is None:
                known = ", ".join(sorted({str(run.spec.model) for run in self.runs}))
                raise UserError(f"model {spec.model} is none of the configuration's ({known}): it is not trained")
            derived = () if alone else derived_specs(self.config, spec, self.task.rows("train"))
            runs.append(PlannedRun(spec, derived, model))
        config = self.config.model_copy(update={"control": False}) if alone else self.config
        return replace(self, config=config, runs=tuple(runs), alone=alone)

    def stack_size(self, spec: RunSpec, device: str) -> int:
        """How many runs like `spec` (of this plan or its control) train as a stack."""
        model = next((run.model for run in self.runs if run.spec.model == spec.model), None)
        if model is None or self.config.engine.data == "stream" or not isinstance(self.task.split("train"), Mapping):
            return 1
        return stack_size(spec, model, self.config.engine, torch.device(device))

    @property
    def total_bytes(self) -> int:
        """Estimate of the disk space for the members that are not finished, and for the control if there is one."""
        predictions = 4 * (self.task.rows("val") + self.task.rows("test")) * self.task.num_classes

        def size(run: PlannedRun) -> int:
            return 4 * run.parameters + predictions + LINE_BYTES * run.spec.training.epochs

        runs = [run for run, _ in self.members]
        members = sum(size(runs[i]) for i in self.todo)
        control_to_come = self.config.control and not (self.pool / CONTROL).exists()
        control = len(self.runs) * max(map(size, self.runs)) if control_to_come else 0
        state = STATE_COPIES * 4 * max(run.parameters for run in self.runs)
        return members + control + state if members or control else 0

    def steps(self, run: PlannedRun) -> int:
        """Optimizer steps of a run."""
        training = run.spec.training
        return training.epochs * steps_per_epoch(self.task.rows("train"), training.batch_size)


def make_plan(config: Config, pool: Path, *, trust: bool = True) -> Plan:
    """Load the data, expand the configuration and try every distinct model and optimizer on a batch of two rows.

    Where batches have one row, on that too. Raises `UserError` for whatever would stop the training later. `trust`
    False: the configuration was made of a pool's files, so no task or model of the user's own is built, and no
    model larger than `UNTRUSTED`.
    """
    specs = config.specs()
    default = config.default
    if not trust:
        if is_own(config.data.name):
            raise untrusted(config.data.name, "task")
        check_local(config.data.options, pool)
    task = load_task(config.data.name, **config.data.options)
    if trust:
        names = tuple(dict.fromkeys([*config.metrics, *register_metrics(task.metrics)]))
        for name in names:
            try_metric(load_metric(name), task.labels("val"), task.num_classes)
        config = config.model_copy(update={"metrics": names})
    notes = [*task.notes]
    tried: dict[str, nn.Module] = {}
    models = []
    for spec in (*specs, default) if default else specs:
        rows = min(2, batch := min(spec.training.batch_size, task.rows("train")))
        if config.engine.micro_batches > batch:
            raise UserError(
                f"engine.micro_batches = {config.engine.micro_batches} leave less than one row a piece: "
                f"a batch has {batch}"
            )
        schedule = parse_schedule(spec.policy)
        controlled = schedule if isinstance(schedule, Controlled) else ""
        asked = spec.training.model_dump_json(include={"loss", "augment", "cutout", "mixup"})
        key = f"{_model_key(spec)} {spec.optimizer!r} {asked} {rows} {controlled}"
        if key not in tried:
            tried[key] = _try(spec, task, rows, trust, notes.append)
        models.append(tried[key])
    runs: list[PlannedRun] = []
    members = len(specs)
    for spec, model in zip(specs, models, strict=False):  # the default's is tried, and no run's
        runs.append(PlannedRun(spec, derived_specs(config, spec, task.rows("train")), model))
        members += len(runs[-1].derived)
        if members > MAX_RUNS:
            raise UserError(f"more than {MAX_RUNS:,} members with the snapshots and averages of the runs ({members:,})")
    return Plan(config, pool, task, tuple(runs), notes=tuple(dict.fromkeys(notes)))


def _model_key(spec: RunSpec) -> str:
    """Equal for runs whose models have equal weights to train."""
    return f"{spec.model.model_dump_json()} {spec.training.freeze}"


def derived_specs(config: Config, spec: RunSpec, train_rows: int) -> tuple[MemberSpec, ...]:
    """The snapshots and averages that the configuration wants of a run."""
    steps = steps_per_epoch(train_rows, spec.training.batch_size)
    wanted = [
        Named.model_validate({"name": "snapshot", "epoch": epoch})
        for epoch in snapshot_epochs(config.snapshots, spec, steps)
    ]
    wanted += [check_average(named, spec.training.epochs) for named in config.averages]
    return tuple(MemberSpec(**{**spec.model_dump(), "derived": named}) for named in wanted)


def _try(spec: RunSpec, task: Task, rows: int, trust: bool, tell: Callable[[str], object]) -> nn.Module:
    """Build model and optimizer and train them one step on one or two rows, at LR 0; return the model."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        if not trust:
            reason = f"model {spec.model} takes more than {UNTRUSTED:,} bytes: --trust (trust=True) allows it"
            stack.enter_context(MemoryLimit(UNTRUSTED, reason))
        model = trainable_model(spec, task.facts, trust=trust, tell=tell)
        optimizer = build_optimizer(spec.optimizer, model)
        _check_control(spec, task, optimizer)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        with calling("reading two rows of train"):
            raw = raw_batches(task, "train")[np.arange(2) % task.rows("train")]
        check_rows(raw, 2, "train")
        with calling("the task's inputs()"):
            prepare = preparer(task, torch.device("cpu"))
        with calling("the task's augment()"):
            two = batch = task.augment(prepare(raw), spec.training)
        check_rows(batch, 2, "train, augmented")
        shape = tuple(batch["x"].shape[1:]) if "x" in batch else ""
        try:
            found = task.scores(model, batch)
        except (UserError, MemoryError):
            raise
        except Exception as error:
            what = "images of shape" if len(shape) == 3 else "rows of shape"
            axes = " (channels, height, width)" if len(shape) == 3 else ""
            raise UserError(f"model {spec.model} cannot take {what} {shape}{axes}: {raised(error)}") from error
        _check_shape(f"model {spec.model} gives", found, (2, task.num_classes), "one score a class")
        with calling("the loss"):
            loss = task.loss(model, batch, spec.training)
        if not (isinstance(loss, tuple) and len(loss) == 2):
            raise UserError(f"the loss is {type(loss).__name__}: (losses of the rows, their scores or None) is needed")
        losses = loss[0]
        _check_shape("the loss is", losses, (2,), "one number a row")
        if not (losses.is_floating_point() and losses.requires_grad):
            raise UserError("the loss has no gradient: it must be made of the scores by functions that have one")
        if not torch.isfinite(losses).all():
            raise UserError(f"the loss of the first rows is {losses.tolist()} before any training: it must be finite")
        batch = {key: value[:rows] for key, value in batch.items()}
        try:
            if rows == 1:
                task.scores(model, batch)
        except (RuntimeError, ValueError) as error:  # as two rows went well, it is batch norm
            raise UserError(
                f"model {spec.model} cannot be trained in batches of one row: training.batch_size=2 or more "
                f"({first_line(error)})"
            ) from error

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = task.loss(model, batch, spec.training)[0].mean()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        try:
            optimizer.step(closure)  # type: ignore[arg-type]
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise UserError(f"optimizer {spec.optimizer} cannot train {spec.model}: {first_line(error)}") from error
        with calling("the task's initialise()"):
            task.initialise(model, two)
        with calling("the task's measure()"):
            named = task.measure(model.eval(), two)
        if not isinstance(named, Mapping):
            raise UserError(f"the task's measure() gives {type(named).__name__}: a dict of tensors by name is needed")
        for name, value in named.items():
            _check_shape(f"{name} of the task's measure() is", value, (2,), "one number a row")
    return model.train()


def _check_control(spec: RunSpec, task: Task, optimizer: torch.optim.Optimizer) -> None:
    """Raise `UserError` where a controller cannot steer this optimizer for this budget."""
    schedule = parse_schedule(spec.policy)
    if isinstance(schedule, Controlled):
        steps = steps_per_epoch(task.rows("train"), spec.training.batch_size)
        bound = schedule.bind(steps_per_epoch=steps, total_steps=steps * spec.training.epochs)
        check_probing(bound, optimizer)


def _check_shape(what: str, found: Any, wanted: tuple[int, ...], why: str) -> None:
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if shape != wanted:
        raise UserError(f"{what} {shape} for 2 rows, a tensor of shape {wanted} is needed: {why}")


def check_disk(path: Path, needed: int) -> None:
    """Raise `UserError` when fewer than `needed` bytes are free where `path` is or will be."""
    existing = next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(f"{path} needs about {size_text(needed)}, but only {size_text(free)} are free there")
