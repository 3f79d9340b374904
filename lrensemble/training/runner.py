"""Fill a pool: several members at a time, resumable, and its control after it."""

from __future__ import annotations

import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.models import is_users_own
from lrensemble.models.objects import OBJECTS
from lrensemble.own import is_importable, is_own
from lrensemble.plugins import REGISTRIES
from lrensemble.pool import Member, MemberSpec, Named, Pool, RunSpec
from lrensemble.pool.files import write_atomic
from lrensemble.pool.lease import EXPIRY
from lrensemble.pool.links import CONFIGURATION
from lrensemble.pool.locks import why_leases
from lrensemble.pool.pool import CONTROL
from lrensemble.pool.record import FINISHED
from lrensemble.tasks import Task
from lrensemble.tasks.inputs import Normalise
from lrensemble.tasks.load import OBJECTS as TASKS
from lrensemble.tasks.rows import raw_batches
from lrensemble.training.config import Config, DataConfig, load_config
from lrensemble.training.executor import Cluster, Executor, Site, choose_site
from lrensemble.training.judges import find_judge
from lrensemble.training.member import Job
from lrensemble.training.plan import Plan, check_disk, make_plan
from lrensemble.training.shard import Shard
from lrensemble.training.stack import group_key
from lrensemble.training.watcher import Watcher

MOST = 1024  # workers, threads
OPEN = {"new", "planned", "running"}  # statuses of members that this command, or another, has still to train


def train_pool(
    config: Config | Plan | dict[str, Any] | str | Path,
    pool: str | Path | None = None,
    *,
    workers: int | None = None,
    per_device: int | None = None,
    threads: int | None = None,
    devices: str = "auto",
    watcher: Watcher | None = None,
    progress: bool | None = None,
    judges: Sequence[Named] = (),
    executor: Executor | None = None,
    on: Cluster | None = None,
    shard: Shard | None = None,
    control: bool = True,
) -> Pool:
    """Train every member of `config` that is not finished yet, then the control if the configuration asks for one.

    Parameters
    ----------
    config : Config, Plan, dict or path
        A configuration from `load_config`, a plan made of one, what `load_config` reads, or a YAML file.
    pool : path, optional
        Folder of the pool, default ``checkpoints/<name>``.
    workers : int, optional
        Runs at a time, each in a process of its own (one: in this process). Default: one per core on the CPU, else
        `per_device` on every device.
    per_device : int, optional
        Runs at a time on every accelerator, default one.
    threads : int, optional
        Threads of every worker, default cores / workers. Results are the same for any number of workers with the
        same number of threads, and within floating-point noise otherwise.
    devices : str
        ``auto`` (every CUDA device, else MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:0,cuda:1``, ``mps``.
    watcher : Watcher, optional
        Told what begins and ends, in place of `progress`.
    progress : bool, optional
        Show on stderr how far it is: a bar on a terminal, a line for every member that finishes elsewhere. Default:
        at a prompt of Python or IPython, and in notebooks.
    judges : sequence of Named
        Asked after every epoch but the last whether a run is stopped: names in `lrensemble.training.judges`, or
        ``package.module:function`` of (spec, history, **parameters), which returns the reason or None.
    executor : callable, optional
        What trains the jobs; default: worker processes of this machine (`lrensemble.training.executor`).
    on : Ray, optional
        A cluster that trains instead of this machine; `devices`, `workers`, `per_device` and `threads` are of it.
    shard : Shard, optional
        Train this share of the runs only, and of the control where all runs are finished: for job arrays. Several
        processes may have the same shard, or none, at the same time: a member is trained once.
    control : bool
        False leaves the control for later, whatever the configuration says.

    Returns
    -------
    Pool
        With every member finished; those that failed are listed by ``pool.members`` with their reason.
    """
    if isinstance(config, str | Path | dict):
        config = load_config(config)
    if not isinstance(config, Config | Plan):
        raise UserError(f"config = {config!r}: a configuration or its file is needed, not {type(config).__name__}")
    plan = config if isinstance(config, Plan) else make_plan(config, Path(pool or default_pool(config)))
    for name, value in (("workers", workers), ("threads", threads), ("per_device", per_device)):
        if value is not None and not 1 <= value <= MOST:
            raise UserError(f"{name} = {value} is not possible: it must be from 1 to {MOST}")
    if workers is not None and per_device is not None:
        raise UserError("workers and per_device say the same thing twice: give one of them")
    for named in judges:
        find_judge(named.name)
    engines = [name for name, given in (("executor", executor), ("on", on), ("shard", shard)) if given]
    if len(engines) > 1:
        raise UserError(f"{' and '.join(engines)} are two ways to train the same runs: give one of them")
    if objects := _objects(plan):
        if on or (workers or per_device or 1) > 1:
            given = "on" if on else "workers and per_device"
            raise UserError(
                f"{' and '.join(objects)} known to this process alone: leave {given} out, or give classes that a "
                "worker can import"
            )
        workers = 1
    shard = shard or Shard(1, 1)
    share = len(shard.of(plan.runs))
    site = choose_site(share, on=on, devices=devices, workers=workers, per_device=per_device, threads=threads)
    if executor:
        site = replace(site, executor=executor)
    check_disk(plan.pool, plan.total_bytes)

    if watcher is None and (progress or (progress is None and _is_interactive())):
        from lrensemble.training.progress import Progress  # rich, which workers need not wait for

        watcher = Progress()
    filler = _Filler(plan, site, watcher or Watcher(), tuple(judges))
    target = create_pool(plan, plan.pool)
    if reason := why_leases(target.path):
        warnings.warn(
            f"{target.path}: {reason}; members are taken by leases instead, and one whose process was killed is free "
            f"after {EXPIRY:.0f} s",
            stacklevel=2,
        )
    filler.fill(target, [(run.spec, run.derived) for run in shard.of(plan.runs)])
    # Its size and its policy are those of all runs: where others are at some, whoever comes last trains it.
    is_over = control and plan.config.control and not OPEN & {*plan.statuses}
    if is_over and (specs := control_specs(target, plan.config.default)):
        filler.fill(create_pool(plan, plan.pool / CONTROL), [(spec, ()) for spec in shard.of(specs)])
    return target


def _is_interactive() -> bool:
    """Whether somebody waits in front of this: a prompt of Python or IPython, or a notebook."""
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules


def _objects(plan: Plan) -> list[str]:
    """Objects and classes of this program in a plan, which no other process can make or import."""
    task, models = plan.config.data.name, sorted({spec.model.name for spec in plan.specs})
    tasks = [task] if task in TASKS or (is_own(task) and not is_importable(task)) else []
    models = [name for name in models if name in OBJECTS or (is_users_own(name) and not is_importable(name))]
    local = [what for what, home in _registered(plan).items() if not is_importable(home)]
    return [f"task {name}" for name in tasks] + [f"model {name}" for name in models] + local


def _registered(plan: Plan) -> dict[str, str]:
    """What this program has registered by name, and the plan uses: in words -> module and object."""
    names = {
        "models": {spec.model.name for spec in plan.specs},
        "tasks": {plan.config.data.name},
        "policies": {name.upper() for spec in plan.specs for name in re.findall(r"\w+(?=\()", spec.policy)},
    }
    return {
        f"{REGISTRIES[kind].what} {name}": home
        for kind, used in names.items()
        for name, home in REGISTRIES[kind].registered(sorted(used)).items()
    }


def default_pool(config: Config) -> Path:
    return Path("checkpoints") / config.name


def control_specs(pool: Pool, default: RunSpec | None = None) -> list[RunSpec]:
    """Members of the control: the best single member of `pool`, or the `default`, again and again, with fresh seeds.

    As many as the pool has finished runs (diverged ones cost their budget too; snapshots and averages cost none), all
    with the same spec but for the seed. None of the best when no run is complete. Runs that only asked for a target
    and ended there are no members of a team, and do not count. Beating the best single model is easy for any ensemble;
    beating seeds of the best shows what LR diversity adds, beating those of a default what the tuning was worth.
    """
    best = pool.best_run()
    if default is None:
        if best is None:
            return []
        default = RunSpec.of(best.record.spec).model_copy(update={"notes": {}})
    specs = [(RunSpec.of(run.record.spec), run.record.status) for run in pool.runs]
    runs = [spec for spec, status in specs if spec.training.until is None or status == "complete"]
    first = 1 + max((spec.seed for spec in runs), default=0)
    spec = default.model_copy(update={"training": default.training.model_copy(update={"until": None})})
    return [spec.model_copy(update={"seed": first + i}) for i in range(len(runs))]


def create_pool(plan: Plan, path: Path) -> Pool:
    """The empty pool of a plan in the folder `path`, or the one that is there."""
    config = plan.config
    pool = pool_of_task(path, config.name, config.data, plan.task)
    if not plan.alone or not (path / CONFIGURATION).exists():
        text = config.model_dump_json(indent=2)
        write_atomic(path / CONFIGURATION, lambda file: file.write(text.encode() + b"\n"))
    return pool


def pool_of_task(path: Path, name: str, data: DataConfig, task: Task) -> Pool:
    """The empty pool of a task in the folder `path`, or the one that is there."""
    return Pool.create(
        path,
        name=name,
        data=data.model_dump(mode="json"),
        data_fingerprint=task.fingerprint,
        class_names=task.class_names,
        input_shape=task.facts.get("input_shape", ()),
        train_rows=task.rows("train"),
        normalisation=_normalisation(task),
        columns=task.columns,
        labels={split: task.labels(split) for split in ("val", "test")},
        choices={split: mask for split in ("val", "test") if (mask := task.choices(split)) is not None},
    )


def _normalisation(task: Task) -> dict[str, list[float]]:
    """What makes inputs of raw rows, where that and the model alone make scores of them; {}: methods of the task do."""
    shape, inputs = task.facts.get("input_shape"), task.inputs()
    if type(task).scores is not Task.scores or not shape or task.facts.keys() != {"input_shape", "num_classes"}:
        return {}
    if isinstance(inputs, Normalise):
        return inputs.values
    rows = raw_batches(task, "val")[np.arange(1)]["x"]
    return {"mean": [0.0] * shape[0], "std": [1.0] * shape[0]} if inputs is None and rows.is_floating_point() else {}


@dataclass(frozen=True)
class _Filler:
    """Trains all that is unfinished in a pool: a slot of the site is one run (or stack) at a time on a device."""

    plan: Plan
    site: Site
    watcher: Watcher
    judges: tuple[Named, ...]

    @cached_property
    def _modules(self) -> tuple[str, ...]:
        return tuple(sorted({h.partition(":")[0] for h in _registered(self.plan).values() if is_importable(h)}))

    @cached_property
    def _own_models(self) -> tuple[Named, ...]:
        return tuple({str(s.model): s.model for s in self.plan.specs if is_users_own(s.model.name)}.values())

    def fill(self, pool: Pool, wanted: Sequence[tuple[RunSpec, Sequence[MemberSpec]]]) -> None:
        """Train runs with their snapshots and averages."""
        runs = pool.plan([spec for spec, _ in wanted])
        children = [pool.plan(derived) for _, derived in wanted]
        every = [member for run, some in zip(runs, children, strict=True) for member in (run, *some)]
        todo = [member for member in every if member.record.status not in FINISHED]
        ids = {run.id: tuple(child.id for child in some) for run, some in zip(runs, children, strict=True) if some}
        unfinished = {member.record.parent or member.id for member in todo}
        going = [run for run in runs if run.id in unfinished]
        sizes = {
            run.id: 1 if run.id in ids else self.plan.stack_size(RunSpec.of(run.record.spec), self.site.slots[0])
            for run in going
        }

        def job(group: Sequence[str], wait: bool = False) -> Job:
            return self._job(pool, group, ids, stacked=sizes[group[0]] > 1, wait=wait)

        jobs = [job(group) for group in self._groups(going, sizes)]
        self.watcher.start(pool, todo, len(every) - len(todo))
        waiting = {member.id for member in todo}
        try:
            busy: list[str] = []
            for done, some in self.site.executor(jobs):
                busy += some
                self._tell(done, waiting)
            # Another process is training these: wait for it, and train what it leaves unfinished.
            for done, _ in self.site.executor([job([member_id], wait=True) for member_id in busy]):
                self._tell(done, waiting)
        finally:
            self.watcher.stop()

    def _tell(self, job: Job, waiting: set[str]) -> None:
        for member_id in job.members:
            for member in job.all_of(member_id):
                if member.id in waiting and member.record.status != "planned":
                    waiting.remove(member.id)
                    self.watcher.member_done(member.record)

    def _groups(self, runs: list[Member], sizes: dict[str, int]) -> list[list[str]]:
        """Runs that train as one stack together, the others alone; never fewer groups than slots if it can be."""
        alike: dict[str, list[str]] = defaultdict(list)
        for run in runs:
            alike[group_key(RunSpec.of(run.record.spec)) if sizes[run.id] > 1 else run.id].append(run.id)
        groups = []
        for ids in alike.values():
            size = min(sizes[ids[0]], -(-len(ids) // len(self.site.slots)))
            groups += [ids[i : i + size] for i in range(0, len(ids), size)]
        return groups

    def _job(
        self, pool: Pool, ids: Sequence[str], derived: dict[str, tuple[str, ...]], *, stacked: bool, wait: bool
    ) -> Job:
        return Job(
            pool=pool.path.absolute(),
            members=tuple(ids),
            derived={i: derived[i] for i in ids if i in derived},
            data=self.plan.config.data,
            data_fingerprint=pool.task.data_fingerprint,
            device=self.site.slots[0],
            threads=self.site.threads,
            stacked=stacked,
            sharers=self.site.sharers,
            engine=self.plan.config.engine,
            targets=self.plan.config.targets,
            judges=self.judges,
            wait=wait,
            modules=self._modules,
            own_models=self._own_models,
        )
