"""Base-LR robustness (Wu et al. 2019): the same policies with all their learning rates multiplied by a factor.

The runs are an ordinary pool in the folder ``lr_scales`` of the pool: resumable, readable with every command.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.evaluation.network import load_data
from lrensemble.models import is_users_own, untrusted
from lrensemble.policies import Policy
from lrensemble.pool import Member, Pool, RunSpec
from lrensemble.pool.record import FINISHED
from lrensemble.training import load_config, make_plan, train_pool

FOLDER = "lr_scales"
FACTORS = (0.1, 0.5, 1.0, 5.0, 10.0)  # as in the paper; 1 is the pool's own member


@dataclass(frozen=True)
class LrRobustness:
    """One member's policy at several multiples of its learning rate, on validation.

    A rerun has another initialisation than the member (a run's seeds come from its whole specification), so some of
    the spread is that of any two runs; the seeds-only control shows how much.
    """

    member: str
    policy: str
    rows: int  # of the validation split
    accuracies: dict[str, float | None]  # factor -> validation accuracy; None: diverged, or not trained yet
    statuses: dict[str, str]  # factor -> status of the run
    spread: float | None  # highest minus lowest accuracy, in points; None where a run diverged: there is no floor
    worst: float | None  # lowest accuracy among the runs that are complete


def train_scaled(
    pool: Pool, members: Sequence[Member], factors: Sequence[float] = FACTORS, *, trust: bool = False, **options: Any
) -> Pool:
    """Train `members` again with their learning rates multiplied by every one of `factors` but 1.

    `options` go to `train_pool`. What is finished is not trained again. Returns the pool of the runs.
    `trust` as in `load_network`: the models are those that the records name.

    Raises
    ------
    UserError
        A factor that is not positive, a member that our trainer did not train, data that are not at hand.
    """
    for factor in factors:
        if not (np.isfinite(factor) and factor > 0):
            raise UserError(f"factor {factor:g} is not possible: learning rates are multiplied by numbers above 0")
    for member in members:
        if member.record.spec.source != "training" or member.record.parent:
            raise UserError(f"member {member.id} is no run of lrensemble train: it cannot be trained again")
        if not trust and is_users_own(name := member.record.spec.model.name):
            raise untrusted(name)
    load_data(pool, trust=trust)  # says so when the data have changed
    groups: dict[str, list[RunSpec]] = defaultdict(list)
    for member in members:
        spec = RunSpec.of(member.record.followed)
        groups[json.dumps(spec.model_dump(mode="json", exclude={"policy"}), sort_keys=True)].append(spec)
    path = pool.path / FOLDER
    for specs in groups.values():
        policies = [str(scaled_policy(spec.policy, factor)) for spec in specs for factor in factors if factor != 1]
        if not policies:
            continue
        first = specs[0]
        config = load_config(
            {
                "name": FOLDER,
                "data": {**pool.task.data, "download": False},  # a pool may be a stranger's: nothing is fetched for it
                "model": first.model.model_dump(),
                "optimizer": first.optimizer.model_dump(),
                "training": first.training.model_dump(),
                "policies": policies,
                "seeds": [first.seed],
            }
        )
        train_pool(make_plan(config, path, trust=trust), **options)
    return Pool.open(path)


def scaled_policy(policy: str, factor: float) -> Policy:
    """The policy with all its learning rates multiplied."""
    return Policy.parse(f"SCALE(of={policy}, by={factor!r})")


def lr_robustness(
    pool: Pool, members: Sequence[Member] | None = None, factors: Sequence[float] = FACTORS
) -> list[LrRobustness]:
    """What the runs of `train_scaled` show; default: all members of the pool that have such runs."""
    path = pool.path / FOLDER
    runs = Pool.open(path).members if (path / "pool.json").is_file() else []
    by_spec = {_key(run.record.spec): run for run in runs}
    found = []
    for member in pool.runs if members is None else members:
        spec = member.record.followed
        of: dict[str, Member] = {}
        for factor in factors:
            scaled = spec.model_copy(update={"policy": str(scaled_policy(spec.policy or "", factor))})
            if run := member if factor == 1 else by_spec.get(_key(scaled)):
                of[f"{factor:g}"] = run
        if members is not None or len(of) > 1:
            found.append(_summary(pool, member, of, factors))
    return found


def _key(spec: Any) -> str:
    return str(spec.model_dump_json())


def _summary(pool: Pool, member: Member, runs: dict[str, Member], factors: Sequence[float]) -> LrRobustness:
    statuses = {f"{factor:g}": runs[f"{factor:g}"].status if f"{factor:g}" in runs else "new" for factor in factors}
    accuracies = {
        factor: runs[factor].record.metrics["val"]["accuracy"] if status == "complete" else None
        for factor, status in statuses.items()
    }
    known = [accuracy for accuracy in accuracies.values() if accuracy is not None]
    whole = len(known) == len(accuracies)
    return LrRobustness(
        member=member.id,
        policy=member.record.spec.label,
        rows=pool.task.rows["val"],
        accuracies=accuracies,
        statuses=statuses,
        spread=100 * (max(known) - min(known)) if whole and known else None,
        worst=min(known, default=None),
    )


def unfinished(found: Sequence[LrRobustness]) -> int:
    """Runs that failed or were not trained."""
    return sum(status not in FINISHED for row in found for status in row.statuses.values())
