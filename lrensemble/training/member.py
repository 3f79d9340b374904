"""Train one planned member of a pool: lock, resume, train, write. Runs in the main or in a worker process."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pickle
import random
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import Timeout

from lrensemble.data import load_dataset
from lrensemble.errors import UserError
from lrensemble.pool import Member, Pool, Record, RunSpec
from lrensemble.pool.files import write_atomic
from lrensemble.pool.record import FINISHED
from lrensemble.pool.writing import environment, write_complete, write_end, write_history
from lrensemble.training.config import DataConfig
from lrensemble.training.device import DeviceData
from lrensemble.training.loop import Outcome, Run, State, fit

CHECKPOINT_SHARE = 0.02  # of the time may go into saving states ...
CHECKPOINT_SECONDS = 2.0  # ... but there is no need to save more often than this
HISTORY_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """One member to train; small, because it travels to a worker process."""

    pool: Path
    member_id: str
    data: DataConfig
    data_fingerprint: str
    device: str
    threads: int
    wait: bool = False  # for a member that another process is training; else report "busy"


@functools.lru_cache(maxsize=1)
def _on_device(config: DataConfig, fingerprint: str, device: str) -> DeviceData:
    """The data of a pool, loaded once a process; the fingerprint tells when files have changed since."""
    data = load_dataset(**dict(config))
    if data.fingerprint != fingerprint:
        raise UserError(f"the data changed while the pool was trained: {config.root or config.name}")
    return DeviceData.of(data, torch.device(device))


def start_worker(parent: int) -> None:
    """Set a worker process up: Ctrl-C is the parent's business, and a worker does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # the parent was killed; whatever is half-written has a temporary name

    threading.Thread(target=watch, daemon=True).start()


def train_member(job: Job) -> Record | None:
    """Train the member unless it is finished; return its record, or None if another process is at it."""
    member = Member(job.pool / "members" / job.member_id)
    try:
        with member.hold(wait=job.wait):
            if member.record.status not in FINISHED:
                _train(member, job)
            return member.record
    except Timeout:
        return None


def _train(member: Member, job: Job) -> None:
    _clean(member)
    data = _on_device(job.data, job.data_fingerprint, job.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    deterministic = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    gpus = [data.train.images.device] if job.device.startswith("cuda") else []
    try:
        with torch.random.fork_rng(devices=gpus), _keep_random_state():
            outcome = fit(
                RunSpec.of(member.record.spec),
                member.id,
                data,
                state=_read_state(member, job.device),
                after_epoch=_Checkpoints(member),
            )
    except (UserError, MemoryError):
        raise
    except Exception as error:
        write_end(
            member,
            history=[],
            status="failed",
            reason=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
            environment=_environment(job),
        )
    else:
        _write(member, job, outcome)
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = deterministic


@contextlib.contextmanager
def _keep_random_state() -> Iterator[None]:
    """Give Python's and NumPy's global generators back as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (users' models may draw from it)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


class _Checkpoints:
    """After an epoch: save the state and the history if the last time is long enough ago."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.saved = self.shown = time.monotonic()
        self.pause = CHECKPOINT_SECONDS

    def __call__(self, run: Run) -> None:
        moment = time.monotonic()
        if moment - self.saved >= self.pause and run.epoch < run.spec.training.epochs:
            buffer = io.BytesIO()
            torch.save(run.state(), buffer)
            write_atomic(self.member.path / "state.pt", lambda file: file.write(buffer.getbuffer()))
            self.saved = time.monotonic()
            self.pause = max(CHECKPOINT_SECONDS, (self.saved - moment) / CHECKPOINT_SHARE)
        if moment - self.shown >= HISTORY_SECONDS:
            write_history(self.member, run.history, sync=False)
            self.shown = moment


def _read_state(member: Member, device: str) -> State | None:
    path = member.path / "state.pt"
    try:
        state: State = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        return None
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
        return None  # it only saves time: without it the member starts again
    return state


def _clean(member: Member) -> None:
    """Remove what a killed process left under temporary names."""
    for path in member.path.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def _write(member: Member, job: Job, outcome: Outcome) -> None:
    last = outcome.history[-1]
    values: dict[str, Any] = {
        "history": outcome.history,
        "costs": outcome.costs,
        "environment": _environment(job),
    }
    train = {"train": {"loss": last["train_loss"], "accuracy": last["train_accuracy"]}}
    if outcome.status == "complete":
        labels = Pool.open(job.pool).labels("val")
        write_complete(
            member,
            labels=labels,
            probabilities=outcome.probabilities,
            weights=outcome.weights,
            metrics=train,
            **values,
        )
    else:
        write_end(member, status=outcome.status, reason=outcome.reason, metrics=train, **values)


def _environment(job: Job) -> dict[str, Any]:
    device = torch.device(job.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return environment(device=name, threads=job.threads)
