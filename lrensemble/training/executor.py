"""Where jobs run: in this process, or in worker processes of this machine. Anything that takes a `Job` can be another.

A job is plain JSON and `train_members` all that an engine has to call.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import joblib

from lrensemble.training.device import pick_devices
from lrensemble.training.member import Job, fail, train_members
from lrensemble.training.worker import Worker, WorkerDied

# Trains jobs, in any order; yields each with the ids of its runs that another process was at.
Executor = Callable[[Iterable[Job]], Iterator[tuple[Job, list[str]]]]
ATTEMPTS = 2  # of a run whose worker dies


@dataclass(frozen=True)
class Site:
    """What trains jobs, and how many at a time.

    Attributes
    ----------
    slots : the device of every run that can go at the same time
    threads : of each
    sharers : runs at the same time on one device
    """

    slots: tuple[str, ...]
    threads: int
    sharers: int
    executor: Executor


class Cluster(Protocol):
    """Other machines: makes a site, as `local_site` does of this machine."""

    def site(
        self, runs: int, *, devices: str, workers: int | None, per_device: int | None, threads: int | None
    ) -> Site: ...


def choose_site(
    runs: int,
    *,
    on: Cluster | None = None,
    devices: str = "auto",
    workers: int | None = None,
    per_device: int | None = None,
    threads: int | None = None,
) -> Site:
    """Where `runs` runs are trained: a cluster, or this machine."""
    make = on.site if on else local_site
    return make(runs, devices=devices, workers=workers, per_device=per_device, threads=threads)


def local_site(runs: int, *, devices: str, workers: int | None, per_device: int | None, threads: int | None) -> Site:
    """Worker processes of this machine.

    Parameters
    ----------
    runs : int
        So many there are to train.
    workers : int, optional
        Default: one per core on the CPU, else `per_device` (1) on every device.
    threads : int, optional
        Default: cores / workers.
    """
    where = [str(device) for device in pick_devices(devices)]
    count = min(workers or (per_device or (joblib.cpu_count() if where == ["cpu"] else 1)) * len(where), max(1, runs))
    slots = tuple(where[i % len(where)] for i in range(count))
    threads = threads or max(1, joblib.cpu_count() // count)
    return Site(slots, threads, slots.count(slots[0]), local_workers(slots))


def in_this_process(jobs: Iterable[Job]) -> Iterator[tuple[Job, list[str]]]:
    """One after the other."""
    for job in jobs:
        yield job, train_members(job)


def local_workers(slots: Sequence[str]) -> Executor:
    """An executor of worker processes: one for every slot, which is the name of a device."""

    def execute(jobs: Iterable[Job]) -> Iterator[tuple[Job, list[str]]]:
        jobs = list(jobs)
        return in_this_process(jobs) if len(slots) == 1 or len(jobs) <= 1 else _in_workers(jobs, slots)

    return execute


def _in_workers(jobs: Sequence[Job], devices: Sequence[str]) -> Iterator[tuple[Job, list[str]]]:
    todo: queue.SimpleQueue[tuple[Job, int] | None] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[Job, list[str]] | BaseException] = queue.SimpleQueue()
    for job in jobs:
        todo.put((job, 1))
    stop = threading.Event()
    slots = [_Slot(device, todo, ended, stop) for device in devices[: len(jobs)]]
    left = {member_id for job in jobs for member_id in job.members}
    try:
        for slot in slots:
            slot.start()
        while left:
            result = ended.get()
            if isinstance(result, BaseException):
                raise result
            left -= set(result[0].members)
            yield result
    finally:
        # Also on Ctrl-C: no worker goes on alone, and none keeps its memory.
        stop.set()
        for _ in slots:
            todo.put(None)
        for slot in slots:
            slot.close()


class _Slot(threading.Thread):
    """One worker process and the thread that feeds it."""

    def __init__(
        self,
        device: str,
        todo: queue.SimpleQueue[tuple[Job, int] | None],
        ended: queue.SimpleQueue[tuple[Job, list[str]] | BaseException],
        stop: threading.Event,
    ) -> None:
        super().__init__(daemon=True)
        self.device, self.todo, self.ended, self.stopping = device, todo, ended, stop
        self.worker = Worker()

    def run(self) -> None:
        while (entry := self.todo.get()) is not None:
            job, attempt = entry
            job = job.model_copy(update={"device": self.device})
            try:
                self.ended.put((job, self.worker.train(job.model_dump_json())))
            except WorkerDied as death:
                if self.stopping.is_set():
                    return
                self.worker.close()
                self.worker = Worker()
                self._again(job, attempt, str(death))
            except BaseException as error:
                self.ended.put(error)
                return

    def _again(self, job: Job, attempt: int, reason: str) -> None:
        """Try runs once more, each alone: what killed a worker may be one of them, or not their fault at all."""
        if attempt < ATTEMPTS:
            for member_id in job.members:
                self.todo.put((job.model_copy(update={"members": (member_id,)}), attempt + 1))
        else:
            fail(job, f"{reason}, {attempt} times")
            self.ended.put((job, []))

    def close(self) -> None:
        self.worker.close()
        if self.ident is not None:
            self.join()
