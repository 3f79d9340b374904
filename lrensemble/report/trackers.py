"""Histories of members to TensorBoard, Weights & Biases or MLflow while they train: local files, nothing is sent."""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lrensemble.errors import MachineError, UserError, did_you_mean, first_line
from lrensemble.installing import needed
from lrensemble.pool import Member, Pool, Record
from lrensemble.pool.files import clear_disk_errors
from lrensemble.report.tensorboard import TensorBoardRun, facts, run_name, scalars
from lrensemble.training.watcher import Watcher

SECONDS = 0.5  # between two looks at the files


class TrackedRun(Protocol):
    """One member in a tracker."""

    def log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines of its history."""

    def end(self, record: Record) -> None:
        """Add what is known once it is finished; nothing comes after it."""


# A pool and the record of a member -> its run; one that is there of the same member is replaced.
Open = Callable[[Pool, Record], TrackedRun]


class Tracker(Watcher):
    """Tells a tracker what the files of members in training say; whoever trains them, in whatever process.

    What goes wrong in a tracker ends the tracking, with one warning, and not the training.

    Parameters
    ----------
    where : ``tensorboard:DIR``, ``wandb:DIR`` or ``mlflow:DIR``
    watcher : Watcher, optional
        Is told, too.

    Raises
    ------
    UserError
        No such tracker, its package is not installed, or there is no folder.
    """

    def __init__(self, where: str, watcher: Watcher | None = None) -> None:
        kind, _, folder = where.partition(":")
        if kind not in TRACKERS:
            raise UserError(f"unknown tracker {kind!r}: {did_you_mean(kind, TRACKERS)}, as in tensorboard:runs")
        if not folder:
            raise UserError(f"--track {kind} has no folder: write {kind}:DIR")
        self.kind, self.folder, self.watcher = kind, Path(folder), watcher or Watcher()
        self._open: Open = TRACKERS[kind](self.folder)

    def start(self, pool: Pool, members: list[Member], finished: int) -> None:
        self.watcher.start(pool, members, finished)
        self._seen = {member.id: _Seen(member) for member in members}
        self._done: deque[str] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(pool,), daemon=True)
        self._thread.start()

    def member_done(self, record: Record) -> None:
        self.watcher.member_done(record)
        self._done.append(record.id)

    def stop(self) -> None:
        try:
            self.watcher.stop()
        finally:
            self._over.set()
            self._thread.join()

    def _follow(self, pool: Pool) -> None:
        try:
            while True:
                over = self._over.wait(SECONDS)
                while self._done:
                    self._seen.pop(self._done.popleft()).finish(pool, self._open)
                for seen in self._seen.values():
                    seen.look(pool, self._open)
                if over and not self._done:
                    for seen in self._seen.values():  # of a training that was stopped
                        seen.finish(pool, self._open)
                    return
        except Exception as error:  # of a library, a disk
            warnings.warn(f"{self.kind}:{self.folder} gets nothing more: {first_line(error)}", stacklevel=1)


@dataclass
class _Seen:
    """A member, its run in the tracker once it has a history, and how many lines of that are there."""

    member: Member
    run: TrackedRun | None = None
    lines: int = 0
    stamp: int = field(default=0, repr=False)

    def look(self, pool: Pool, open_run: Open) -> None:
        """Log what is new."""
        member = Member(self.member.path)  # its record may have been replaced
        try:
            stamp = (member.path / "history.jsonl").stat().st_mtime_ns
            if stamp == self.stamp:
                return
            history = member.history()
        except MachineError:
            raise
        except (UserError, OSError):  # not there yet
            return
        self.stamp = stamp
        if new := history[self.lines :]:
            self.run = self.run or open_run(pool, member.record)
            self.run.log(new)
            self.lines = len(history)

    def finish(self, pool: Pool, open_run: Open) -> None:
        self.stamp = 0
        self.look(pool, open_run)
        if self.run:
            self.run.end(Member(self.member.path).record)


def _values(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Every line's step and finite numbers, by the names that TensorBoard has them under."""
    for line in lines:
        entries = [entry for entry in scalars([dict(line)]) if entry[1] == entry[1]]
        if entries:
            yield entries[0][2], {tag: value for tag, value, *_ in entries}


def _results(record: Record) -> dict[str, float]:
    """Of the finished model, on validation."""
    return {f"final/{name}": value for name, value in record.val.items() if value is not None}


def _tensorboard(folder: Path) -> Open:
    def open_run(pool: Pool, record: Record) -> TrackedRun:
        return TensorBoardRun(folder / run_name(record), record)

    TensorBoardRun.check()
    return open_run


class _WandbRun:
    """An offline run of Weights & Biases: ``wandb sync`` sends it, when the user says so."""

    def __init__(self, folder: Path, pool: Pool, record: Record) -> None:
        import wandb

        with clear_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False)
        self.run = wandb.init(
            mode="offline",
            dir=str(folder),
            project=pool.task.name,
            id=record.id,
            name=run_name(record),
            config=facts(record),
            reinit="create_new",
            settings=quiet,
        )

    def log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        for step, values in _values(lines):
            self.run.log(values, step=step)

    def end(self, record: Record) -> None:
        self.run.summary.update({**_results(record), "status": record.status})
        self.run.finish(exit_code=int(record.status != "complete"))


def _wandb(folder: Path) -> Open:
    with needed("wandb:DIR needs Weights & Biases' package", "wandb"):
        import wandb  # noqa: F401
    return lambda pool, record: _WandbRun(folder, pool, record)


class _MLflowRun:
    """A run in an MLflow database in the folder."""

    def __init__(self, client: Any, pool: Pool, record: Record) -> None:
        from mlflow.entities import Param

        self.client = client
        known = client.get_experiment_by_name(pool.task.name)
        experiment = known.experiment_id if known else client.create_experiment(pool.task.name)
        for old in client.search_runs([experiment], f"tags.member = '{record.id}'"):
            client.delete_run(old.info.run_id)
        tags = {"member": record.id}
        self.id = client.create_run(experiment, run_name=run_name(record), tags=tags).info.run_id
        params = [Param(key, str(value)[:500]) for key, value in facts(record).items()]
        client.log_batch(self.id, params=params[:100])

    def log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        for step, values in _values(lines):
            self._add(values, step)

    def _add(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(tag, value, now, step) for tag, value in values.items()])

    def end(self, record: Record) -> None:
        self._add(_results(record), int(record.costs.get("steps", 0)))
        status = {"complete": "FINISHED", "planned": "KILLED"}.get(record.status, "FAILED")
        self.client.set_terminated(self.id, status)


def _mlflow(folder: Path) -> Open:
    with needed("mlflow:DIR needs MLflow's package", "mlflow"):
        from mlflow import MlflowClient
    with clear_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlflow.db').absolute()}")
    return lambda pool, record: _MLflowRun(client, pool, record)


TRACKERS: dict[str, Callable[[Path], Open]] = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
