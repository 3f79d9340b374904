"""The pool halved at random: what half tuning and half seeds would have given, and how much hangs on the runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lrensemble.array import Array
from lrensemble.evaluation.again import Selectors
from lrensemble.evaluation.control import Seeds, bill_of, is_seed_of
from lrensemble.evaluation.paired import RowScores
from lrensemble.evaluation.results import Bill, OverRuns
from lrensemble.evaluation.same_size import draw_teams
from lrensemble.pool import Member, Pool

DRAWS = 20  # halves
LEAST = 4  # runs that can be halved
WORK = 2e10  # probabilities that selecting on all halves may average: seconds


class Mixed(NamedTuple):
    """Half tuning, half seeds: the mean over the halves, row by row."""

    rows: RowScores
    members: float  # mean size of its teams
    accuracies: Array  # of every half


@dataclass(frozen=True)
class Halves:
    """By the name of the team."""

    over_runs: dict[str, OverRuns] = field(default_factory=dict)
    mixed: dict[str, Mixed] = field(default_factory=dict)
    bill: Bill | None = None  # of half tuning, half seeds
    left_out: dict[str, str] = field(default_factory=dict)  # team -> why it is in none of these


def select_on_halves(pool: Pool, members: Sequence[Member], selectors: Selectors, seeds: Seeds, hard: bool) -> Halves:
    """Let every team's selector choose from random halves of the pool's runs.

    A half whose best run has the policy of the control's `seeds` is filled up with as many of these as the pool has
    runs more: what half of the trainings for tuning, and half for seeds of the best so far, would have given. The
    halves that found another best policy have no seeds here and are left out, which favours half and half.

    Parameters
    ----------
    members : of the pool's runs, all that can be used
    hard : members that give labels take part: no NLL
    """
    runs = pool.runs
    if len(runs) < LEAST:
        return Halves()
    labels = pool.labels("test")
    probabilities = pool.task.rows["val"] * len(pool.task.class_names) * DRAWS
    names = [name for name in selectors.known if selectors.tried.get(name, 1) * probabilities <= WORK]
    left_out = {
        name: f"its {selectors.tried[name]:,} teams are too many to try on {DRAWS} halves of the pool"
        for name in selectors.known
        if name not in names
    }
    rng = np.random.default_rng(0)
    gains: dict[str, list[tuple[float, float]]] = defaultdict(list)
    mixed: dict[str, list[tuple[RowScores, int]]] = defaultdict(list)
    bills: list[Bill] = []
    half = len(runs) // 2
    for indicator in draw_teams(len(runs), half, DRAWS):
        chosen = [run for run, inside in zip(runs, indicator, strict=True) if inside]
        ids = {run.id for run in chosen}
        own = [member for member in members if ids.issuperset(member.record.runs)]
        if not own:  # all diverged
            continue
        single = RowScores.of(pool.predictions("test", [pool.best_single(own)])[0], labels, hard)
        for name, found in selectors.on(own, names):
            if not isinstance(found, str):
                gain = RowScores.of(found.rows, labels, hard)
                gains[name].append(
                    (100 * float((gain.correct - single.correct).mean()), float((single.nll - gain.nll).mean()))
                )
        best = pool.best_single([run for run in chosen if run.record.status == "complete"] or own)
        if seeds.runs and is_seed_of(best, seeds.runs[0].record.spec):
            fresh = [seeds.runs[i] for i in rng.choice(len(seeds.runs), len(runs) - half, replace=False)]
            bills.append(bill_of([*chosen, *fresh]))
            both = [*own, *(run for run in fresh if run.record.status == "complete")]
            for name, found in selectors.on(both, names):
                if not isinstance(found, str):
                    mixed[name].append((RowScores.of(found.rows, labels, hard), found.members))
    return Halves(
        {name: _over_runs(values, len(runs), half) for name, values in gains.items() if len(values) > 2},
        {name: _mean(values) for name, values in mixed.items() if len(values) > 1},
        _mean_bill(bills) if bills else None,
        left_out,
    )


def jackknife(values: Sequence[float] | Array, total: int, kept: int) -> float:
    """Standard error of a statistic of `total` things, from its `values` on random subsets of `kept` of them.

    The delete-d jackknife (Shao & Wu 1989, Annals of Statistics 17).
    """
    return float(np.sqrt(kept / (total - kept)) * np.std(values))


def _over_runs(gains: list[tuple[float, float]], total: int, half: int) -> OverRuns:
    accuracy, nll = np.array(gains).T
    return OverRuns(
        len(gains), jackknife(accuracy, total, half), None if np.isnan(nll).any() else jackknife(nll, total, half)
    )


def _mean(values: list[tuple[RowScores, int]]) -> Mixed:
    rows = [scores for scores, _ in values]
    return Mixed(
        RowScores(np.mean([one.correct for one in rows], 0), np.mean([one.nll for one in rows], 0)),
        float(np.mean([members for _, members in values])),
        np.array([one.correct.mean() for one in rows]),
    )


def _mean_bill(bills: list[Bill]) -> Bill:
    seconds = [bill.seconds for bill in bills if bill.seconds is not None]
    return Bill(
        bills[0].trainings,
        round(float(np.mean([bill.epochs for bill in bills]))),
        float(np.mean(seconds)) if len(seconds) == len(bills) else None,
    )
