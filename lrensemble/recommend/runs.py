"""The runs of a pool as a surrogate sees them: LR curves, budgets, status, seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError
from lrensemble.policies import Policy
from lrensemble.policies.units import steps_per_epoch
from lrensemble.pool import Member, Pool, RunSpec
from lrensemble.recommend.features import lr_features, with_configuration

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Runs:
    """Finished runs of our trainer, by id.

    Attributes
    ----------
    specs : of every run
    complete : (M,) bool; the others diverged or were stopped
    """

    members: list[Member]
    specs: list[RunSpec]
    complete: Array


def read_runs(pool: Pool, *splits: str) -> Runs:
    """The finished runs of a pool, with whole predictions of `splits`; `UserError` where none has a policy."""
    members = pool.whole(pool.runs, *splits)
    if not members:
        total = len(pool.members)
        what = f"none of its {total} members is a finished run of lrensemble train" if total else "it is empty"
        raise UserError(
            f"{pool.path}: nothing to learn from: {what}. What to train next is learned from LR policies and what "
            "came of them: lrensemble train CONFIG first, or lrensemble run CONFIG, which does both"
        )
    complete = np.array([member.record.status == "complete" for member in members])
    return Runs(members, [RunSpec.of(member.record.followed) for member in members], complete)


def total_steps(spec: RunSpec, train_rows: int) -> tuple[int, int]:
    """Optimizer steps an epoch, and in all."""
    per_epoch = steps_per_epoch(train_rows, spec.training.batch_size)
    return per_epoch, per_epoch * spec.training.epochs


def spec_features(specs: Sequence[RunSpec], train_rows: int) -> Array:
    """Features of runs, comparable with each other: (M, F). Give known ones and candidates together."""
    shapes, steps, settings = [], [], []
    for spec in specs:
        per_epoch, total = total_steps(spec, train_rows)
        shapes.append(lr_features(Policy.parse(spec.policy), steps_per_epoch=per_epoch, total_steps=total))
        steps.append(total)
        settings.append(configuration(spec))
    return with_configuration(np.array(shapes), steps, settings)


def configuration(spec: RunSpec) -> tuple[str, str, str]:
    """What a run has beside policy, seed and budget: model, optimizer and how it is trained."""
    training = spec.training.model_copy(update={"epochs": 1})
    return str(spec.model), str(spec.optimizer), training.model_dump_json(exclude_defaults=True)


def expected_seconds(runs: Runs, specs: Sequence[RunSpec], train_rows: int) -> Array:
    """Seconds that training each of `specs` takes: those of complete runs per sample, of the most similar kind.

    The median over runs of the same configuration, else of the same model, else of all.
    """
    known = [
        (configuration(spec), float(member.record.costs["seconds"]) / _samples(spec, train_rows))
        for member, spec, complete in zip(runs.members, runs.specs, runs.complete, strict=True)
        if complete and "seconds" in member.record.costs
    ]
    if not known:
        return np.ones(len(specs))

    def pace(spec: RunSpec) -> float:
        mine = configuration(spec)
        same = [seconds for other, seconds in known if other == mine]
        similar = [seconds for other, seconds in known if other[0] == mine[0]]
        return float(np.median(same or similar or [seconds for _, seconds in known]))

    return np.array([pace(spec) * _samples(spec, train_rows) for spec in specs])


def _samples(spec: RunSpec, train_rows: int) -> float:
    return float(total_steps(spec, train_rows)[1] * spec.training.batch_size)
