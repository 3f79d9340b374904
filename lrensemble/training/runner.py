"""Fill a pool: several members at a time, resumable, and the seeds-only control after it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from lrensemble.errors import UserError
from lrensemble.pool import Member, Pool, Record, RunSpec
from lrensemble.pool.files import write_atomic
from lrensemble.pool.pool import CONTROL
from lrensemble.pool.record import FINISHED
from lrensemble.training.config import Config, load_config
from lrensemble.training.device import pick_device
from lrensemble.training.member import Job, start_worker, train_member
from lrensemble.training.plan import Plan, check_disk, make_plan

MOST = 1024  # workers, threads


class Watcher(Protocol):
    """Who is told how the training of a pool goes (the shell shows progress)."""

    def start(self, pool: Pool, members: list[Member], finished: int) -> None: ...
    def member_done(self, record: Record) -> None: ...
    def stop(self) -> None: ...


class Silent:
    """Tells nobody."""

    def start(self, pool: Pool, members: list[Member], finished: int) -> None: ...
    def member_done(self, record: Record) -> None: ...
    def stop(self) -> None: ...


def train_pool(
    config: Config | Plan | str | Path,
    pool: str | Path | None = None,
    *,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Pool:
    """Train every member of `config` that is not finished yet, then the control if the configuration asks for one.

    Parameters
    ----------
    config : Config, Plan or path
        A configuration from `load_config`, a plan made of one, or a YAML file.
    pool : path, optional
        Folder of the pool, default ``checkpoints/<name>``.
    workers : int, optional
        Members at a time, each in a process of its own (one: in this process). Default: one on an accelerator, one
        per core on the CPU.
    threads : int, optional
        Threads of every worker, default cores / workers. Results are the same for any number of workers with the
        same number of threads, and within floating-point noise otherwise.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Returns
    -------
    Pool
        With every member finished; those that failed are listed by ``pool.members`` with their reason.
    """
    if isinstance(config, str | Path):
        config = load_config(config)
    plan = config if isinstance(config, Plan) else make_plan(config, Path(pool or default_pool(config)))
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and not 1 <= value <= MOST:
            raise UserError(f"{name} = {value} is not possible: it must be from 1 to {MOST}")
    where = pick_device(device)
    watcher = watcher or Silent()
    cores = joblib.cpu_count()
    if workers is None:
        workers = cores if where.type == "cpu" else 1
    workers = min(workers, max(1, len(plan.specs)))
    threads = threads or max(1, cores // workers)
    check_disk(plan.pool, plan.total_bytes)

    target = _create(plan, plan.pool)
    _fill(target, plan.specs, plan.config, workers, threads, str(where), watcher)
    if plan.config.control and (specs := control_specs(target)):
        _fill(_create(plan, plan.pool / CONTROL), specs, plan.config, workers, threads, str(where), watcher)
    return target


def default_pool(config: Config) -> Path:
    return Path("checkpoints") / config.name


def control_specs(pool: Pool) -> list[RunSpec]:
    """Members of the seeds-only control: the best single member of `pool` again and again, with fresh seeds.

    As many as the pool has finished runs (diverged ones cost their budget too; snapshots and averages cost none), all
    with the same spec but for the seed. None when no run is complete. Beating the best single model is easy for any
    ensemble; beating this one shows what LR diversity adds.
    """
    best, runs = pool.best_run(), pool.runs
    if best is None:
        return []
    first = 1 + max(run.record.spec.seed for run in runs)
    spec = RunSpec.of(best.record.spec)
    return [spec.model_copy(update={"seed": first + i}) for i in range(len(runs))]


def _create(plan: Plan, path: Path) -> Pool:
    config, data = plan.config, plan.data
    mean, std = data.normalisation
    pool = Pool.create(
        path,
        name=config.name,
        data=config.data.model_dump(mode="json"),
        data_fingerprint=data.fingerprint,
        class_names=data.class_names,
        input_shape=data.input_shape,
        train_rows=len(data.train),
        normalisation={"mean": mean, "std": std},
        labels={"val": data.val.labels, "test": data.test.labels},
    )
    text = config.model_dump_json(indent=2)  # the configuration as it was understood, for people
    write_atomic(path / "config.json", lambda file: file.write(text.encode() + b"\n"))
    return pool


def _fill(
    pool: Pool,
    specs: list[RunSpec],
    config: Config,
    workers: int,
    threads: int,
    device: str,
    watcher: Watcher,
) -> None:
    members = pool.plan(specs)
    todo = [member for member in members if member.record.status not in FINISHED]
    fingerprint = pool.task.data_fingerprint
    jobs = [Job(pool.path.absolute(), member.id, config.data, fingerprint, device, threads) for member in todo]
    watcher.start(pool, todo, len(members) - len(todo))
    try:
        busy = []
        for job, record in _run(jobs, workers):
            if record is None:
                busy.append(job)
            else:
                watcher.member_done(record)
        # Another process is training these: wait for it, and train what it leaves unfinished.
        for _, record in _run([dataclasses.replace(job, wait=True) for job in busy], workers):
            if record is not None:
                watcher.member_done(record)
    finally:
        watcher.stop()


def _run(jobs: list[Job], workers: int) -> Iterator[tuple[Job, Record | None]]:
    """Train in this process, or in `workers` processes; yield as members finish."""
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, train_member(job)
        return
    parallel = joblib.Parallel(
        n_jobs=workers,
        backend="loky",
        batch_size=1,
        pre_dispatch="n_jobs",
        return_as="generator_unordered",
        initializer=start_worker,
        initargs=(os.getpid(),),
    )
    try:
        yield from parallel(joblib.delayed(_labelled)(job) for job in jobs)
    except TerminatedWorkerError:
        raise UserError(
            "a worker process was killed (out of memory?). Run the same command again to go on, "
            "with fewer --workers if it happens again"
        ) from None
    finally:
        # Also on Ctrl-C: no worker goes on alone, and none keeps its memory.
        with contextlib.suppress(Exception):  # a worker that is gone already
            get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _labelled(job: Job) -> tuple[Job, Record | None]:
    return job, train_member(job)
