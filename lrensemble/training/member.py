"""Train planned members of a pool: lock, resume, train, write. Runs in the main or in a worker process."""

from __future__ import annotations

import contextlib
import functools
import gc
import random
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import Timeout
from pydantic import Field

from lrensemble.errors import UserError
from lrensemble.models import is_users_own
from lrensemble.own import OwnCodeError
from lrensemble.plugins import import_registered
from lrensemble.pool import Member, Named, Pool, RunSpec
from lrensemble.pool.lease import LeaseLost
from lrensemble.pool.links import delete
from lrensemble.pool.record import FINISHED, Strict
from lrensemble.pool.writing import environment, reached, write_complete, write_end, write_history
from lrensemble.tasks import load_task
from lrensemble.tasks.rows import DeviceData
from lrensemble.training.config import DataConfig
from lrensemble.training.derived import refresh_norms
from lrensemble.training.engine import Engine
from lrensemble.training.loop import Outcome, Run, State, fit
from lrensemble.training.stack import fit_stack
from lrensemble.training.state import STATE, read_state, write_state

CHECKPOINT_SHARE = 0.02  # of the time may go into saving states ...
CHECKPOINT_SECONDS = 2.0  # ... but there is no need to save more often than this
HISTORY_SECONDS = 1.0
MOST_PIECES = 64  # of a batch, when memory is short


class Job(Strict):
    """Runs to train in one process: one, or several as a stack. Plain values: it travels to a worker as JSON.

    Attributes
    ----------
    members : ids of the runs
    derived : for a run's id, the ids of the snapshots and averages that it shall leave
    stacked : train the runs as a stack; one run too, so that its bits do not depend on who else is left to train
    judges : who may stop a run, beside those that its own spec asks for
    sharers : processes that use the device at the same time
    wait : for a member that another process is training; else it is left out
    own_models : models ``package.module:callable`` of the configuration; a record that names another is not trained
    modules : whose import registers what the runs need by name
    """

    pool: Path
    members: tuple[str, ...]
    derived: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    data: DataConfig
    data_fingerprint: str
    device: str
    threads: int
    stacked: bool = False
    sharers: int = 1
    engine: Engine = Engine()
    targets: tuple[float, ...] = ()
    judges: tuple[Named, ...] = ()
    wait: bool = False
    own_models: tuple[Named, ...] = ()
    modules: tuple[str, ...] = ()

    def member(self, member_id: str) -> Member:
        return Member(self.pool / "members" / member_id)

    def all_of(self, member_id: str) -> list[Member]:
        """The run and what is derived from it, as they are on disk now."""
        return [self.member(i) for i in (member_id, *self.derived.get(member_id, ()))]

    def is_done(self, member_id: str) -> bool:
        return all(member.record.status in FINISHED for member in self.all_of(member_id))


@functools.lru_cache(maxsize=1)
def _on_device(text: str, fingerprint: str, device: str, sharers: int, engine: Engine) -> DeviceData:
    """The data of a pool, loaded once a process; the fingerprint tells when files have changed since."""
    config = DataConfig.model_validate_json(text)
    data = load_task(config.name, **config.options)
    if data.fingerprint != fingerprint:
        raise UserError(f"the data changed while the pool was trained: {config.root or config.name}")
    return engine.rows(data, torch.device(device), sharers)


def train_members(job: Job) -> list[str]:
    """Train the runs of a job that are not finished; return the ids of those that another process is at."""
    try:
        return _train_held(job)
    except LeaseLost as error:
        warnings.warn(str(error), stacklevel=2)
        return [member_id for member_id in job.members if not job.is_done(member_id)]


def _train_held(job: Job) -> list[str]:
    import_registered(job.modules)
    busy = []
    with contextlib.ExitStack() as locks:
        held = []
        for member_id in job.members:
            try:
                locks.enter_context(job.member(member_id).hold(wait=job.wait))
            except Timeout:
                busy.append(member_id)
            else:
                held.append(member_id)
                for member in job.all_of(member_id):
                    for path in member.path.rglob(".*.tmp"):  # what a killed process left
                        delete(path)
        todo = [member_id for member_id in held if not job.is_done(member_id)]
        for member_id in todo:
            _admit(job, member_id)
        if todo:
            with _torch_as_wanted(job):
                _train(job, todo)
    return busy


def _admit(job: Job, member_id: str) -> None:
    """Raise `UserError` where a record names code that the configuration does not: who put it there?"""
    model = job.member(member_id).record.spec.model
    known = [own.model_dump(mode="json") for own in job.own_models]
    if is_users_own(model.name) and model.model_dump(mode="json") not in known:
        raise UserError(f"member {member_id} in {job.pool} is of the model {model}, which is not in the configuration")


def _train(job: Job, todo: list[str]) -> None:
    data = _on_device(job.data.model_dump_json(), job.data_fingerprint, job.device, job.sharers, job.engine)
    if job.stacked:
        try:
            _train_stack(job, todo, data)
            return
        except Exception as error:
            if _is_of_all(error):
                raise
            # One by one: an error fails the member that it belongs to, and one needs less memory than many.
            what = f"{type(error).__name__}: {error}"
            warnings.warn(f"training {len(todo)} runs as a stack failed, now one by one ({what})", stacklevel=2)
    for member_id in todo:
        if not job.is_done(member_id):
            _train_alone(job, member_id, data)


def _train_stack(job: Job, todo: list[str], data: DeviceData) -> None:
    members = {member_id: job.member(member_id) for member_id in todo}
    runs = [
        _resumed(
            functools.partial(Run, RunSpec.of(member.record.spec), i, data, job.engine), read_state(member, job.device)
        )
        for i, member in members.items()
    ]
    checkpoints = {i: _Checkpoints(member, CHECKPOINT_SHARE / len(members)) for i, member in members.items()}

    def after_epoch(run: Run) -> None:
        run.ask(job.judges)
        checkpoints[run.member_id](run)

    fit_stack(
        runs,
        after_epoch=after_epoch,
        ended=lambda run, outcome: _write(members[run.member_id], job, outcome, stack=len(todo)),
    )


def _train_alone(job: Job, member_id: str, data: DeviceData) -> None:
    """Train one run; in smaller pieces when memory is short, and failed with its traceback when it raises."""
    member = job.member(member_id)
    children = job.all_of(member_id)[1:]

    def unfinished() -> dict[str, Member]:
        return {m.id: m for m in children if m.record.status not in FINISHED}

    pieces = job.engine.micro_batches
    most = max(pieces, min(MOST_PIECES, len(data.train), RunSpec.of(member.record.spec).training.batch_size))
    while True:
        try:
            outcome = _fit(job, member, unfinished(), data, pieces)
            break
        except Exception as error:
            if _is_of_all(error):
                raise
            if not _is_out_of_memory(error) or pieces == most:
                reason, text = f"{type(error).__name__}: {error}", traceback.format_exc()
                for one in (member, *children):
                    if one.record.status not in FINISHED:
                        _fail(one, job, reason, text)
                return
        # Outside of the except block: the exception's frames, which hold the tensors, are gone.
        pieces = min(2 * pieces, most)
        gc.collect()
        if data.device.type == "cuda":
            torch.cuda.empty_cache()
    if member.record.status not in FINISHED:
        _write(member, job, outcome)
    for one in unfinished().values():  # the run ended before it was their turn
        write_end(
            one,
            history=[],
            status=outcome.status if outcome.status in FINISHED[1:] else "failed",
            reason=f"its run {member_id} ended before: {outcome.reason}",
            environment=_environment(job, outcome),
        )
    delete(member.path / STATE)  # it lasted until everything that came of the run was written


def _is_of_all(error: Exception) -> bool:
    """Whether an error ends the training of all runs, not of the one that met it."""
    return isinstance(error, UserError) and not isinstance(error, OwnCodeError)


def _fit(job: Job, member: Member, derived: Mapping[str, Member], data: DeviceData, pieces: int) -> Outcome:
    """Train a run to its end, writing snapshots on the way and averages after it."""
    specs = {i: one.record.spec.derived or Named(name="") for i, one in derived.items()}
    snapshots = {i: named.parameters["epoch"] for i, named in specs.items() if named.name == "snapshot"}
    averages = {i: named for i, named in specs.items() if named.name != "snapshot"}
    state = read_state(member, job.device)
    if state is not None and any(epoch <= state["epoch"] for epoch in snapshots.values()):
        state = None  # a snapshot was asked for that lies behind it
    checkpoint = _Checkpoints(member, CHECKPOINT_SHARE)

    def after_epoch(run: Run) -> None:
        for i, epoch in snapshots.items():
            if epoch == run.epoch:
                _write(derived[i], job, run.outcome())
        run.ask(job.judges)
        checkpoint(run)

    spec = RunSpec.of(member.record.spec)
    going = _resumed(functools.partial(Run, spec, member.id, data, job.engine, averages, pieces), state)
    outcome = fit(going, after_epoch=after_epoch)
    if outcome.status == "complete":
        for i, average in going.averages.items():
            averaged = refresh_norms(average.model.module, data, max(1, going.batch_size // pieces))
            _write(derived[i], job, going.outcome(averaged))
    return outcome


def _resumed(begin: Callable[[], Run], state: State | None) -> Run:
    """A run that goes on from its state; from the beginning where that is of no use."""
    run = begin()
    if state is None:
        return run
    try:
        run.load_state(state)
    except (
        UserError,
        RuntimeError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
    ):  # of what has changed since
        return begin()
    return run


def _is_out_of_memory(error: Exception) -> bool:
    # torch has a class of its own for accelerators; on the CPU it is a RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


@contextlib.contextmanager
def _torch_as_wanted(job: Job) -> Iterator[None]:
    """Threads and determinism for a job; afterwards everything is as it was, the random states too."""
    threads, deterministic = torch.get_num_threads(), torch.backends.cudnn.deterministic
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (users' models may draw from it)
    gpus = [torch.device(job.device)] if job.device.startswith("cuda") else []
    torch.set_num_threads(job.threads)
    torch.backends.cudnn.deterministic = True
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = deterministic


class _Checkpoints:
    """After an epoch: save the state and the history if the last time is long enough ago."""

    def __init__(self, member: Member, share: float) -> None:
        self.member, self.share = member, share
        self.saved = self.shown = time.monotonic()
        self.pause = CHECKPOINT_SECONDS

    def __call__(self, run: Run) -> None:
        moment = time.monotonic()
        if moment - self.saved >= self.pause and run.epoch < run.spec.training.epochs:
            write_state(self.member, run.state())
            self.saved = time.monotonic()
            self.pause = max(CHECKPOINT_SECONDS, (self.saved - moment) / self.share)
        if moment - self.shown >= HISTORY_SECONDS and self.member.record.status not in FINISHED:
            write_history(self.member, run.history, sync=False)
            self.shown = moment


def _write(member: Member, job: Job, outcome: Outcome, stack: int = 1) -> None:
    values: dict[str, Any] = {
        "history": outcome.history,
        "costs": outcome.costs,
        "environment": _environment(job, outcome, stack),
        "targets": reached(outcome.history, job.targets),
        "trace": outcome.trace,
        "control": outcome.control,
        "base": outcome.base,
    }
    if outcome.history:
        last = outcome.history[-1]
        values["metrics"] = {"train": {"loss": last["train_loss"], "accuracy": last["train_accuracy"]}}
    if outcome.status == "complete":
        write_complete(
            member,
            labels=Pool.open(job.pool).labels("val"),
            probabilities=outcome.probabilities,
            weights=outcome.weights,
            **values,
        )
    else:
        write_end(member, status=outcome.status, reason=outcome.reason, **values)


def _fail(member: Member, job: Job, reason: str, text: str | None) -> None:
    write_end(member, history=[], status="failed", reason=reason, traceback=text, environment=_environment(job))


def fail(job: Job, reason: str) -> None:
    """Record that the runs of a job cannot be trained, unless another process is at them or has done it."""
    for member_id in job.members:
        with contextlib.suppress(Timeout), job.member(member_id).hold(wait=False):
            for member in job.all_of(member_id):
                if member.record.status not in FINISHED:
                    _fail(member, job, reason, None)


def _environment(job: Job, outcome: Outcome | None = None, stack: int = 1) -> dict[str, Any]:
    device = torch.device(job.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    engine = {**outcome.engine, "stack": stack} if outcome else {}
    return environment(device=name, threads=job.threads, **engine)
