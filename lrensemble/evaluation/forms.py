"""A pool as a table: forms of LR policies by the values that they reach, on validation and on test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.metrics import correct_rows, nll_rows
from lrensemble.policies import Policy
from lrensemble.pool import Member, Pool

TARGET = 0.95  # of a run's own best accuracy
NORMAL = 1.959964  # 95 %
LOOKED_AT = 10_000  # steps that the largest LR is looked for at, evenly spread


@dataclass(frozen=True)
class SplitScore:
    """Means over the seeds of one split; the interval is a normal one of 95 %, over its rows."""

    accuracy: float
    interval: tuple[float, float]
    nll: float


@dataclass(frozen=True)
class FormScore:
    """One form of a policy at one value, over its seeds.

    Attributes
    ----------
    form : the policy without its LRs
    value : the largest LR that it has
    steps : until `TARGET` of the best validation accuracy of the same run, the mean over seeds
    tokens : a second, in training; of other data than texts, rows
    """

    form: str
    value: float
    members: tuple[str, ...]
    val: SplitScore
    test: SplitScore
    steps: float
    tokens: float


@dataclass(frozen=True)
class FormTable:
    """All complete runs of a pool; the best on validation (accuracy, then NLL) first.

    Attributes
    ----------
    rows : of val and test
    unit : of `FormScore.tokens`
    """

    pool: str
    rows: dict[str, int]
    chance: dict[str, float]
    unit: str
    scores: tuple[FormScore, ...]

    @property
    def by_value(self) -> dict[float, FormScore]:
        """The best form at every value."""
        return {score.value: score for score in sorted(self.scores, key=_worse_first)}

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def form_table(pool: Pool) -> FormTable:
    """Group the runs of a pool by form and value. The winner is chosen on validation; test stands beside it.

    Raises
    ------
    UserError
        There is no complete run of our trainer.
    """
    groups: dict[tuple[str, float], list[Member]] = {}
    for member in pool.runs:
        if member.record.status == "complete":
            groups.setdefault(form_and_value(member), []).append(member)
    if not groups:
        raise UserError(f"{pool.path} has no complete run of lrensemble's own: there is nothing to compare")
    scores = [_score(pool, form, value, members) for (form, value), members in groups.items()]
    some = next(iter(groups.values()))[0]
    return FormTable(
        pool=str(pool.path),
        rows={split: pool.task.rows[split] for split in ("val", "test")},
        chance={split: pool.chance(split) for split in ("val", "test")},
        unit="tokens" if "tokens" in some.record.costs else "rows",
        scores=tuple(sorted(scores, key=_worse_first, reverse=True)),
    )


def form_and_value(member: Member) -> tuple[str, float]:
    """The policy without its LRs, and the largest LR of the run."""
    text = member.record.followed.policy
    assert text is not None
    steps = max(1, int(member.record.costs["steps"]))
    epochs = member.record.spec.training.epochs if member.record.spec.training else 1
    policy = Policy.parse(text).bind(steps_per_epoch=max(1, steps // epochs), total_steps=steps)
    looked = np.unique(np.linspace(0, steps - 1, min(steps, LOOKED_AT)).astype(int))
    form = re.sub(r"\b(k0|k1|start)=[^,()\[\]]*(, )?", "", text).replace(", )", ")").replace("()", "")
    return form, float(f"{float(np.max(policy(looked))):.6g}")


def _worse_first(score: FormScore) -> tuple[float, float]:
    return score.val.accuracy, -score.val.nll


def _score(pool: Pool, form: str, value: float, members: Sequence[Member]) -> FormScore:
    costs = [member.record.costs for member in members]
    return FormScore(
        form=form,
        value=value,
        members=tuple(member.id for member in members),
        val=_of_split(pool, "val", members),
        test=_of_split(pool, "test", members),
        steps=float(np.mean([_steps(member) for member in members])),
        tokens=float(np.mean([cost["samples_per_second"] * cost.get("tokens", 1) for cost in costs])),
    )


def _of_split(pool: Pool, split: str, members: Sequence[Member]) -> SplitScore:
    labels, predictions = pool.labels(split), pool.predictions(split, members)
    right: Array = np.mean([correct_rows(p, labels) for p in predictions], axis=0)
    accuracy, margin = float(right.mean()), NORMAL * float(right.std()) / len(labels) ** 0.5
    nll = float(np.mean([nll_rows(p, labels).mean() for p in predictions]))
    return SplitScore(accuracy, (max(0.0, accuracy - margin), min(1.0, accuracy + margin)), nll)


def _steps(member: Member) -> int:
    """As fine as its history is."""
    history = member.history()
    goal = TARGET * max(line["val_accuracy"] for line in history)
    return next(int(line["step"]) for line in history if line["val_accuracy"] >= goal)
