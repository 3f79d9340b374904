"""Recommend a policy for a task: range, search, then the best ones and the defaults again with fresh seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrensemble.errors import UserError
from lrensemble.policies import Policy
from lrensemble.policies.sweep import RangeTest
from lrensemble.recommend.candidates import baselines, first_policies
from lrensemble.recommend.database import TaskRuns, add_runs, find_pools, read_tasks, study_of, sync
from lrensemble.recommend.ranking import Row, rank, shape_and_peak
from lrensemble.recommend.runs import FinishedRun, Objective, run_of
from lrensemble.recommend.search import Search, search
from lrensemble.recommend.setting import Setting
from lrensemble.recommend.store import Store
from lrensemble.renamed import renamed
from lrensemble.training import Plan, train_pool
from lrensemble.training.executor import choose_site
from lrensemble.training.range_test import REPEATS, range_test

FRESH = 1000  # first of the seeds that no search uses: what is claimed comes from these alone
SIMILAR = 3  # policies that are taken from a similar task
FACTOR = 3.0  # the searched range reaches so far beyond what a similar task's best policies use


@dataclass(frozen=True)
class Recommendation:
    """What was found. All accuracies are of the validation split; nothing of the test split is read.

    Attributes
    ----------
    k0 : the range of peak LRs that was searched
    similar : the task of the database whose best policies were tried first, if there is one
    tried : every policy that was searched (one seed each), best first
    best : the finalists with fresh seeds, best first
    defaults : the baselines with the same seeds, by name
    """

    task: Setting
    target: float | None
    k0: tuple[float, float]
    test: RangeTest
    similar: Setting | None
    tried: list[Row]
    best: list[Row]
    defaults: dict[str, Row]
    seeds: tuple[int, ...]
    reasons: dict[str, str]  # policy -> why its run ended early


@renamed(told="tell_run", stage="tell")
def recommend(
    plan: Plan,
    store: Store,
    *,
    target: float | None = None,
    trials: int = 30,
    sampler: str = "tpe",
    pruner: str = "median",
    minutes: float | None = None,
    finalists: int = 3,
    seeds: int = 5,
    first_seed: int = FRESH,
    with_defaults: bool = False,
    options: Mapping[str, Any] | None = None,
    watcher: Any = None,
    tell_run: Callable[[FinishedRun, int], None] = lambda run, count: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Recommendation:
    """Search policies for the task of `plan` (its first member's data, model, optimizer and budget).

    Everything that is trained is a member of the plan's pool and a record of the database, so the same call goes on
    after an interruption. `options` go to `train_pool`. `target` asks for the fewest steps to that validation accuracy
    instead of the highest accuracy. `tell` is told what begins, `tell_run` every run of the search with their number.
    """
    options = dict(options or {})
    objective = Objective(target)
    test = range_test(
        plan.specs[0],
        plan.task,
        engine=plan.config.engine,
        device=options.get("devices", "auto"),
        tell=lambda sweep, step: None if step else tell(f"range test: sweep {sweep + 1} of {REPEATS}"),
    )
    if plan.pool.exists():
        sync(store, find_pools([plan.pool]))
    wanted = Search(plan, store, objective, (test.low, test.high), trials, sampler, pruner, minutes=minutes)
    where = {key: options[key] for key in ("on", "devices", "workers", "per_device", "threads") if key in options}
    width = len(choose_site(trials, **where).slots)
    wanted = dataclasses.replace(wanted, seed=plan.specs[0].seed, options=options, width=width)
    tasks = read_tasks(store)
    near = similar(wanted.task, tasks)
    hints = _best_policies(near, objective) if near else []
    k0 = _range(test, hints, wanted)
    wanted = dataclasses.replace(wanted, k0=k0, first=[*hints, *first_policies(k0)])
    tell(f"search: {trials} policies, peak LR {k0[0]:.3g} to {k0[1]:.3g}")
    search(wanted, _runs(tasks, wanted.task), tell=tell_run)

    runs = [run for run in _runs(read_tasks(store), wanted.task) if run.seed == wanted.seed]
    tried = rank(wanted.task, runs, objective.order, target)
    chosen = [row.policy for row in tried if row.n][:finalists]
    if not chosen:
        ends = sorted({run.status for run in runs}) or ["none trained"]
        raise UserError(f"none of {len(runs)} runs is complete ({', '.join(ends)}): lower the learning rates")
    defaults = baselines(plan.specs[0]) if with_defaults else {}
    fresh = tuple(range(first_seed, first_seed + seeds))
    tell(f"confirm: {len(chosen)} policies and {len(defaults)} defaults with {seeds} fresh seeds")
    again = confirm(wanted, [*chosen, *defaults.values()], fresh, watcher)
    rows = {row.policy: row for row in rank(wanted.task, again, objective.order, target)}
    return Recommendation(
        task=wanted.task,
        target=target,
        k0=k0,
        test=test,
        similar=near.task if near else None,
        tried=tried,
        best=[row for row in rows.values() if row.policy in chosen],
        defaults={name: rows[policy] for name, policy in defaults.items() if policy in rows},
        seeds=fresh,
        reasons={run.policy: run.reason for run in runs if run.reason},
    )


def confirm(wanted: Search, policies: Sequence[str], seeds: Sequence[int], watcher: Any = None) -> list[FinishedRun]:
    """Train policies with other seeds, to the end, in the same pool; and record them."""
    specs = [
        wanted.spec.model_copy(update={"policy": policy, "seed": seed})
        for policy in dict.fromkeys(policies)
        for seed in seeds
    ]
    pool = train_pool(wanted.plan.of(specs, alone=True), watcher=watcher, **wanted.options)
    members = [pool.member_of(spec) for spec in specs]
    runs = [run_of(pool, member) for member in members if member.record.status != "failed"]
    with wanted.store.lock():
        study = study_of(wanted.store, wanted.task)
        add_runs(wanted.store, study, runs, wanted.task, Objective(), wanted.plan.task.rows("train"))
    return runs


def similar(task: Setting, tasks: Sequence[TaskRuns]) -> TaskRuns | None:
    """The task with most in common: the same optimizer, and the same data or model; then batch size and most runs."""

    def likeness(one: TaskRuns) -> tuple[int, ...]:
        other = one.task
        return (
            (other.data == task.data) + (other.model.name == task.model.name),
            int(other.model == task.model),
            int(other.batch_size == task.batch_size),
            len(one.runs),
        )

    near = [
        one
        for one in tasks
        if one.task.study != task.study
        and one.task.optimizer == task.optimizer
        and any(run.is_complete for run in one.runs)
        and likeness(one)[0]
    ]
    return max(near, key=likeness, default=None)


def _runs(tasks: Sequence[TaskRuns], task: Setting) -> list[FinishedRun]:
    return next((one.runs for one in tasks if one.task.study == task.study), [])


def _best_policies(near: TaskRuns, objective: Objective) -> list[Policy]:
    rows = rank(near.task, near.runs, objective.order, objective.target)
    return [Policy.parse(row.policy) for row in rows if row.n][:SIMILAR]


def _range(test: RangeTest, hints: Sequence[Policy], wanted: Search) -> tuple[float, float]:
    """The range test's, extended to the peaks of what was best on a similar task (at most `FACTOR` times)."""
    found = [shape_and_peak(str(hint), wanted.steps_per_epoch, wanted.total_steps) for hint in hints]
    peaks = [one[1] for one in found if one is not None]
    low = max(min([test.low, *peaks]), test.low / FACTOR)
    high = min(max([test.high, *peaks]), test.high * FACTOR)
    return float(f"{low:.3g}"), float(f"{high:.3g}")
