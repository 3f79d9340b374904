"""The policy database: what every pool knows about LR policies, one Optuna study per task.

Pools are the truth. A record is written once, and the database can be made anew from the pools at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lrensemble.errors import UserError, did_you_mean
from lrensemble.pool import Pool
from lrensemble.recommend.runs import (
    FinishedRun,
    Objective,
    attributes,
    every,
    read_run,
    run_of,
    trial_parameters,
    why_not,
)
from lrensemble.recommend.setting import Setting
from lrensemble.recommend.store import Store, load_optuna

if TYPE_CHECKING:
    import optuna

ACCURACY = Objective()


@dataclass
class Synced:
    """What `sync` did: how many records were added, were there already, and were left out for which reason."""

    pools: int = 0
    added: int = 0
    known: int = 0
    tasks: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def find_pools(paths: Iterable[str | Path]) -> list[Pool]:
    """The pools at `paths`, or below them where a path is a folder of pools; with their controls, each once."""
    found: dict[Path, Pool] = {}
    for path in map(Path, paths):
        files = sorted(path.rglob("pool.json")) if path.is_dir() else []
        # The message of `Pool.open` says what is wrong with a folder in which there is none.
        folders = [file.parent for file in files if "members" not in file.relative_to(path).parts] or [path]
        for folder in folders:
            found.setdefault(folder.resolve(), Pool.open(folder))
    return list(found.values())


def sync(store: Store, pools: Sequence[Pool], *, tell: Callable[[int, int], None] = lambda done, total: None) -> Synced:
    """Add every finished run of `pools` that the database does not have; a member (by its id) is added once.

    Safe to run any number of times and in several processes at once. `tell` is told (done, total).
    """
    result = Synced(pools=len(pools))
    tasks: dict[str, tuple[Setting, int, list[FinishedRun]]] = {}
    for pool in pools:
        for member in pool.members:
            try:
                reason = why_not(member.record)
                if reason is None:
                    task = Setting.of(pool.task.data, pool.task.data_fingerprint, member.record.spec)
                    run = run_of(pool, member)
                    tasks.setdefault(task.key, (task, pool.task.rows["train"], []))[2].append(run)
            except UserError:
                reason = "damaged"
            if reason:
                result.left_out[reason] += 1
    total = sum(len(runs) for *_, runs in tasks.values())
    result.tasks = len(tasks)
    for task, rows, runs in tasks.values():
        with store.lock():
            study = study_of(store, task)
            try:
                new = add_runs(store, study, runs, task, ACCURACY, rows)
            except ValueError:  # Optuna: one name with other choices
                raise UserError(
                    f"{store.url} was written by another version of lrensemble: sync into a new database"
                ) from None
        result.added += new
        result.known += len(runs) - new
        tell(result.added + result.known, total)
    return result


def study_of(store: Store, task: Setting, objective: Objective = ACCURACY, **options: Any) -> optuna.Study:
    """The study of a task and objective; made when it is not there (hold `store.lock()`)."""
    study: optuna.Study = load_optuna().create_study(
        study_name=objective.study(task),
        storage=store.storage,
        direction=objective.direction,
        load_if_exists=True,
        **options,
    )
    if "task" not in study.user_attrs:
        study.set_user_attr("task", task.model_dump(mode="json"))
        if objective.target is not None:
            study.set_user_attr("target", objective.target)
    return study


def members_of(study: optuna.Study) -> dict[str, optuna.trial.FrozenTrial]:
    """The trials of a study by the ids of their members."""
    return {t.user_attrs["member"]: t for t in study.get_trials(deepcopy=False) if "member" in t.user_attrs}


def add_runs(
    store: Store, study: optuna.Study, runs: Sequence[FinishedRun], task: Setting, objective: Objective, train_rows: int
) -> int:
    """Add the runs that the study does not have, and finish their running trials; return how many it were.

    Hold `store.lock()`, so that nobody else adds them meanwhile.
    """
    trials = members_of(study)
    new = 0
    seen: set[str] = set()
    for run in runs:
        if run.member in seen:  # a copied pool
            continue
        seen.add(run.member)
        trial = trials.get(run.member)
        if trial is None:
            study.add_trial(_new_trial(run, task, objective, train_rows))
        elif trial.state.is_finished():
            continue
        else:  # of a search
            finish(store, study, trial.number, run, task, objective)
        new += 1
    return new


def _new_trial(run: FinishedRun, task: Setting, objective: Objective, train_rows: int) -> optuna.trial.FrozenTrial:
    trial = load_optuna().trial
    parameters = trial_parameters(run, task, train_rows)
    value = objective.value(run)
    return trial.create_trial(  # type: ignore[no-any-return]
        state=trial.TrialState.PRUNED if value is None else trial.TrialState.COMPLETE,
        value=value,
        params={name: value for name, (value, _) in parameters.items()},
        distributions={name: distribution for name, (_, distribution) in parameters.items()},
        user_attrs=attributes(run),
        intermediate_values=_intermediate(run, task, objective),
    )


def trial_key(store: Store, study: optuna.Study, number: int) -> int:
    """What a storage calls the trial that its study calls `number`."""
    return store.storage.get_trial_id_from_study_id_trial_number(
        store.storage.get_study_id_from_name(study.study_name), number
    )


def finish(
    store: Store, study: optuna.Study, number: int, run: FinishedRun, task: Setting, objective: Objective = ACCURACY
) -> None:
    """Record a run in the running trial `number`; nothing happens when somebody has done so."""
    state = load_optuna().trial.TrialState
    trial = study.get_trials(deepcopy=False)[number]
    if trial.state.is_finished():
        return
    key = trial_key(store, study, number)
    for name, value in attributes(run).items():
        store.storage.set_trial_user_attr(key, name, value)
    for epoch, shown in _intermediate(run, task, objective).items():
        if epoch not in trial.intermediate_values:
            store.storage.set_trial_intermediate_value(key, epoch, shown)
    worth = objective.value(run)
    study.tell(number, worth, state=state.PRUNED if worth is None else state.COMPLETE, skip_if_finished=True)


def _intermediate(run: FinishedRun, task: Setting, objective: Objective) -> dict[int, float]:
    """What pruners see, by epoch; nothing of a diverged run: samplers take that as the worst."""
    if run.status == "diverged":
        return {}
    step = every(task.epochs or len(run.curve))
    return {int(epoch): objective.shown(accuracy) for epoch, _, _, accuracy in run.curve if epoch % step == 0}


@dataclass(frozen=True)
class TaskRuns:
    """A task and its finished runs."""

    task: Setting
    runs: list[FinishedRun]


def read_tasks(store: Store) -> list[TaskRuns]:
    """Every task of the database with its runs, in the order of their names. Studies of other programs are no tasks."""
    optuna = load_optuna()
    found = []
    for frozen in store.storage.get_all_studies():
        if "task" not in frozen.user_attrs:
            continue
        try:
            task = Setting.model_validate(frozen.user_attrs["task"])
        except ValidationError:
            continue
        study = optuna.load_study(study_name=frozen.study_name, storage=store.storage)
        if "target" in frozen.user_attrs:  # a search for steps to a target: its runs are in the task's own study
            continue
        runs = [run for trial in study.get_trials(deepcopy=False) if (run := read_run(trial)) is not None]
        found.append(TaskRuns(task, runs))
    return sorted(found, key=lambda one: str(one.task))


def choose_tasks(
    tasks: Sequence[TaskRuns],
    *,
    data: str | None = None,
    model: str | None = None,
    optimizer: str | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
) -> list[TaskRuns]:
    """The tasks that fit; a `UserError` with the nearest name when nothing does."""
    if not tasks:
        raise UserError("the database has no records: lrensemble policies sync FOLDER fills it from pools")
    wanted: list[tuple[str, object, Callable[[Setting], set[object]]]] = [
        ("data", data, lambda task: {task.data}),
        ("model", model, lambda task: {task.model.name, str(task.model)}),
        ("optimizer", optimizer, lambda task: {task.optimizer.name, str(task.optimizer)} if task.optimizer else set()),
        ("batch size", batch_size, lambda task: {task.batch_size}),
        ("epochs", epochs, lambda task: {task.epochs}),
    ]
    left, said = list(tasks), ""
    for what, value, names in wanted:
        if value is None:
            continue
        fitting = [one for one in left if value in names(one.task)]
        if not fitting:
            known = {str(name) for one in left for name in names(one.task) if name is not None}
            raise UserError(f"no record has {what} {value}{said}: {did_you_mean(value, known)}")
        left = fitting
        said += f"{' and' if said else ' with'} {what} {value}"
    return left
