"""Search the policies of one task: draw, train with an eye on the others, stop the bad ones early, record.

Every run trains for the whole budget unless it is stopped, because lengths in percent make a policy another one in a
shorter budget. So what is cut early is judged by its validation accuracy so far, against others at the same epoch. (A
policy that keeps its LR high for long looks worse on the way than it ends: pruners are patient, and can be off.)
"""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies import Policy
from lrensemble.policies.units import steps_per_epoch
from lrensemble.pool import Member, Named, Pool, RunSpec
from lrensemble.recommend.candidates import grid
from lrensemble.recommend.database import add_runs, finish, members_of, study_of, trial_key
from lrensemble.recommend.runs import FinishedRun, Objective, every, run_of
from lrensemble.recommend.setting import Setting
from lrensemble.recommend.space import parameters_of, suggest
from lrensemble.recommend.store import Store, load_optuna, open_store
from lrensemble.training import Plan, train_pool

if TYPE_CHECKING:
    import optuna

STARTUP = 10  # runs before samplers model and pruners prune
PATIENCE = 0.3  # of the budget, before which nothing is pruned
LATE = 0.8  # of the budget, after which the rest is cheaper than not knowing
DRAWS = 20  # of one sampler in a row that were there already: then there is nothing new


@dataclass(frozen=True)
class Search:
    """A search within one plan (its data, model, optimizer and budget; its policies do not matter).

    Attributes
    ----------
    trials : policies to search, counted over all workers and earlier calls with this storage
    k0 : range of peak LRs
    width : policies that are trained at the same time
    first : policies to try before the sampler draws
    minutes : to stop after, between two runs; None is no limit
    """

    plan: Plan
    store: Store
    objective: Objective
    k0: tuple[float, float]
    trials: int = 30
    sampler: str = "tpe"
    pruner: str = "median"
    first: Sequence[Policy] = ()
    minutes: float | None = None
    seed: int = 0
    width: int = 1  # policies at a time
    options: Mapping[str, Any] = field(default_factory=dict)  # of train_pool

    @property
    def spec(self) -> RunSpec:
        return self.plan.specs[0]

    @property
    def task(self) -> Setting:
        return Setting.of(self.plan.config.data.model_dump(mode="json"), self.plan.task.fingerprint, self.spec)

    @property
    def total_steps(self) -> int:
        return self.spec.training.epochs * self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.plan.task.rows("train"), self.spec.training.batch_size)


def search(
    wanted: Search,
    known: Sequence[FinishedRun] = (),
    *,
    tell: Callable[[FinishedRun, int], None] = lambda run, count: None,
) -> None:
    """Search until `wanted.trials` policies are finished, or `wanted.minutes` are over, or nothing new is drawn.

    Several processes may search one task with one storage and one pool: each policy is trained once. What a killed one
    left is taken up by the next. `known` are runs of the task that the sampler learns from; `tell` gets every run with
    the number of searched ones.
    """
    with wanted.store.lock():
        study = study_of(
            wanted.store,
            wanted.task,
            wanted.objective,
            sampler=_sampler(wanted),
            pruner=_pruner(wanted.pruner, wanted.spec.training.epochs),
        )
        add_runs(wanted.store, study, known, wanted.task, wanted.objective, wanted.plan.task.rows("train"))
    began = time.monotonic()
    tried_again: set[int] = set()
    while wanted.minutes is None or time.monotonic() - began < 60 * wanted.minutes:
        with wanted.store.lock():
            numbers = _next_ones(wanted, study, tried_again)
        if not numbers:
            return
        for run in _train(wanted, study, numbers):
            tell(run, sum(trial.state.is_finished() for trial in _searched(study)))


def _searched(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("searched")]


def _next_ones(wanted: Search, study: optuna.Study, tried: set[int]) -> list[int]:
    """Trials to train now, one for every worker."""
    numbers: list[int] = []
    while len(numbers) < wanted.width:
        number = _left_behind(wanted, study, tried)
        if number is None:
            number = _next(wanted, study)
        if number is None:
            break
        numbers.append(number)
    return numbers


def _left_behind(wanted: Search, study: optuna.Study, tried: set[int]) -> int | None:
    """A running trial of this pool that nobody is at: its worker was killed. Each is tried once by a process."""
    state = load_optuna().trial.TrialState
    for frozen in _searched(study):
        if frozen.state == state.RUNNING and frozen.number not in tried:
            member = Member(wanted.plan.pool / "members" / frozen.user_attrs["member"])
            begun = member.record_path.exists() or _is_gone(frozen.user_attrs.get("worker", ""))
            if begun and not member.is_held():
                tried.add(frozen.number)
                return frozen.number
    return None


def _worker() -> str:
    """This process: host, number, and when it began, as numbers come back."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"


def _is_gone(worker: str) -> bool:
    """True for a process of this machine that does not run any more."""
    host, _, rest = worker.partition(" ")
    if host != socket.gethostname():
        return False
    try:
        number, began = map(float, rest.split())
        return f"{psutil.Process(int(number)).create_time():.0f}" != f"{began:.0f}"
    except (ValueError, psutil.Error):
        return True


def _next(wanted: Search, study: optuna.Study) -> int | None:
    """A new trial with its policy and member; None when there are enough, or nothing new is drawn."""
    optuna = load_optuna()
    if len([t for t in _searched(study) if t.state != optuna.trial.TrialState.FAIL]) >= wanted.trials:
        return None
    there = members_of(study)
    for policy in (*wanted.first, *(grid(wanted.k0) if wanted.sampler == "grid" else ())):
        member = _spec(wanted, policy).id(wanted.plan.task.fingerprint)
        if member not in there:
            parameters = parameters_of(policy, steps_per_epoch=wanted.steps_per_epoch, total_steps=wanted.total_steps)
            template = optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params={name: value for name, (value, _) in parameters.items()},
                distributions={name: distribution for name, (_, distribution) in parameters.items()},
                user_attrs={"searched": True, "worker": _worker(), "policy": str(policy), "member": member},
            )
            storage = wanted.store.storage
            key = storage.create_new_trial(storage.get_study_id_from_name(study.study_name), template)
            return storage.get_trial_number_from_id(key)
    if wanted.sampler == "grid":
        return None
    for _ in range(DRAWS):
        trial = study.ask()
        policy = suggest(trial, wanted.k0)
        member = _spec(wanted, policy).id(wanted.plan.task.fingerprint)
        if member not in there:
            for name, value in {"worker": _worker(), "policy": str(policy), "member": member, "searched": True}.items():
                trial.set_user_attr(name, value)
            return trial.number
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return None


def _spec(wanted: Search, policy: Policy) -> RunSpec:
    return wanted.spec.model_copy(update={"policy": str(policy), "seed": wanted.seed})


def _train(wanted: Search, study: optuna.Study, numbers: Sequence[int]) -> Iterator[FinishedRun]:
    """Train the members of trials in the pool, and record them; those that failed are none."""
    trials = [study.get_trials(deepcopy=False)[number] for number in numbers]
    specs = [_spec(wanted, Policy.parse(trial.user_attrs["policy"])) for trial in trials]
    judge = {
        "name": f"{__name__}:{prune.__name__}",
        "storage": wanted.store.address,
        "study": study.study_name,
        "pruner": wanted.pruner,
        "data_fingerprint": wanted.plan.task.fingerprint,
        "target": wanted.objective.target,
    }
    judges = [] if wanted.pruner == "none" else [Named.model_validate(judge)]
    pool = train_pool(wanted.plan.of(specs, alone=True), judges=judges, **{**wanted.options, "workers": len(specs)})
    for number, spec in zip(numbers, specs, strict=True):
        member = pool.member_of(spec)
        if member.record.status == "failed":
            key = trial_key(wanted.store, study, number)
            wanted.store.storage.set_trial_user_attr(key, "reason", member.record.reason)
            study.tell(number, state=load_optuna().trial.TrialState.FAIL, skip_if_finished=True)
        else:
            yield record_member(wanted, study, pool, member)


@functools.lru_cache(maxsize=4)
def _opened(storage: str, study: str, pruner: str, epochs: int) -> tuple[Store, optuna.Study]:
    store = open_store(storage)
    return store, load_optuna().load_study(study_name=study, storage=store.storage, pruner=_pruner(pruner, epochs))


def prune(
    spec: RunSpec,
    history: Sequence[Mapping[str, Any]],
    *,
    storage: str,
    study: str,
    pruner: str,
    data_fingerprint: str,
    target: float | None,
) -> str | None:
    """A judge: tell the study how a run of its search is doing, and stop it where the pruner says so."""
    epoch, accuracy, epochs = history[-1]["epoch"], history[-1]["val_accuracy"], spec.training.epochs
    if epoch % every(epochs) or not np.isfinite(accuracy):
        return None
    store, asked = _opened(storage, study, pruner, epochs)
    number = members_of(asked)[spec.id(data_fingerprint)].number
    key = trial_key(store, asked, number)
    if epoch not in store.storage.get_trial(key).intermediate_values:
        store.storage.set_trial_intermediate_value(key, epoch, Objective(target).shown(accuracy))
    arrived = target is not None and any(line["val_accuracy"] >= target for line in history)
    if arrived or epoch > LATE * epochs or not asked.pruner.prune(asked, store.storage.get_trial(key)):
        return None
    return f"pruned ({pruner}): validation accuracy {accuracy:.4f} after {epoch} of {epochs} epochs is low"


def record_member(wanted: Search, study: optuna.Study, pool: Pool, member: Member) -> FinishedRun:
    """Record a finished member in the study of the search and in the one of its task."""
    run = run_of(pool, member)
    with wanted.store.lock():
        number = members_of(study)[member.id].number
        finish(wanted.store, study, number, run, wanted.task, wanted.objective)
        if wanted.objective.target is not None:
            own = study_of(wanted.store, wanted.task)
            add_runs(wanted.store, own, [run], wanted.task, Objective(), wanted.plan.task.rows("train"))
    return run


def _sampler(wanted: Search) -> Any:
    samplers = load_optuna().samplers
    # Every worker draws something else, and so does a search that goes on.
    seed = time.time_ns() % 2**32
    makers: dict[str, Callable[[], Any]] = {
        "tpe": lambda: samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=False),
        "random": lambda: samplers.RandomSampler(seed=seed),
        "cmaes": lambda: samplers.CmaEsSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False),
        "gp": lambda: samplers.GPSampler(seed=seed, n_startup_trials=STARTUP, independent_sampler=makers["tpe"]()),
        "grid": lambda: samplers.RandomSampler(seed=seed),
    }
    if wanted.sampler not in makers:
        raise UserError(f"unknown sampler {wanted.sampler!r}: {did_you_mean(wanted.sampler, makers)}")
    return makers[wanted.sampler]()


def _pruner(name: str, epochs: int) -> Any:
    pruners = load_optuna().pruners
    first = max(1, round(PATIENCE * epochs))
    makers: dict[str, Callable[[], Any]] = {
        "median": lambda: pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=first),
        "halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=2),
        "hyperband": lambda: pruners.HyperbandPruner(min_resource=first, max_resource=epochs, reduction_factor=2),
        "none": pruners.NopPruner,
    }
    if name not in makers:
        raise UserError(f"unknown pruner {name!r}: {did_you_mean(name, makers)}")
    return makers[name]()
