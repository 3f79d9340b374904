"""Selected teams on the test split: scores with intervals, and the baselines that each must beat."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrensemble.array import Array
from lrensemble.evaluation.again import Selectors
from lrensemble.evaluation.control import bill_of_pool, seeds_of_best, seeds_of_default
from lrensemble.evaluation.halves import Halves, select_on_halves
from lrensemble.evaluation.measured import Measures
from lrensemble.evaluation.paired import PairedRows, RowScores
from lrensemble.evaluation.results import (
    ALL_AVERAGE,
    BEST_SINGLE,
    DEFAULT_SEEDS,
    HALF,
    RANDOM,
    SEEDS_ONLY,
    TOP_K,
    Bill,
    Comparison,
    Evaluation,
    OverRuns,
    Score,
)
from lrensemble.evaluation.same_size import SameSize
from lrensemble.evaluation.stored import write_evaluation, write_evaluations
from lrensemble.evaluation.teams import (
    Entry,
    Teams,
    check_test_predictions,
    predictions,
    resolve,
    vote,
    with_baselines,
)
from lrensemble.evaluation.verdict import caution, verdict
from lrensemble.metrics import holm, mcnemar, member_scores, utility
from lrensemble.pool import Member, Pool, Team
from lrensemble.pool.given import given_pool


class _Rival(NamedTuple):
    """A baseline for one team, before it is compared."""

    name: str  # of the team
    baseline: str
    members: int
    rows: RowScores
    bill: Bill | None
    accuracies: Array | None = None  # of a mean over teams: of each


class _Rivals(NamedTuple):
    """All that the teams are compared with."""

    baselines: list[_Rival]
    together: dict[
        str, RowScores
    ]  # by team: its selector on pool and control together, which costs as much as seeds-only
    over_runs: dict[str, OverRuns]
    control_note: str
    default_note: str
    left_out: dict[str, str]  # team -> why it is not compared with seeds-only
    half_left_out: dict[str, str]


def evaluate(
    pool: Pool | str | Path,
    teams: Teams = None,
    *,
    save: bool = True,
    metrics: Sequence[str] = (),
    trust: bool = False,
) -> Evaluation:
    """Score teams (default: all that were selected) on the test split, and compare them with the baselines.

    The first two scores are the baselines of the pool: the best single member, chosen by validation accuracy, and the
    average of all members. Every team also meets top-k and random teams of its own size, and, when the pool has a
    seeds-only control, what its own selector makes of the control's validation predictions. At equal bills: half tuning
    and half seeds, seeds of a default, pool and control together. Nothing found here is used for choosing anything.
    Results are written to ``evaluations/<team>.json``, and those of all teams together to
    ``evaluation.json``, unless `save` is False.

    Parameters
    ----------
    pool : Pool, or its folder
    metrics : sequence of str, optional
        Names of metrics to report, beside those that the pool's configuration or its task names and those that teams
        were selected for; ``package.module:function`` is imported and called.
    trust : bool
        Import and call a ``package.module:function`` that files of the pool name, too.

    Raises
    ------
    UserError
        No team, unknown team, a team whose members are gone (when it is asked for; else it is left out), damaged,
        missing or non-finite predictions; a metric that was named and cannot be computed.
    """
    pool = given_pool(pool)
    check_test_predictions(pool, pool.usable())
    members = pool.usable("val", "test")
    chosen, left_out = resolve(pool, teams, "val", "test")
    single = pool.best_single(members)
    entries, single_name, average_name = with_baselines(
        chosen, {single.id: 1.0}, {member.id: 1 / len(members) for member in members}
    )
    known = {member.id: member for member in members}
    labels = pool.labels("test")
    measures = Measures(pool, chosen, metrics, trust)
    # One at a time: a vote is as large as a member's predictions.
    found = {name: _scored(pool, entry, known, labels, measures) for name, entry in entries.items()}
    promised = {single_name: {k: v for k, v in single.record.val.items() if v is not None}}
    promised |= {team.name: team.validation for team in chosen}

    bill = bill_of_pool(pool, members)
    baselines = (single_name, average_name)
    rivals = _rivals(pool, members, chosen, entries, found, baselines, labels, measures, bill)
    objectives = {team.name: team.objective for team in chosen}
    controls = {team.name for team in chosen if team.is_control}
    objective = next(iter(objectives.values())) if len(set(objectives.values())) == 1 else "nll"  # of the baselines
    met = rivals.baselines
    rows = PairedRows(
        [*(one.rows for one in found.values()), *(rival.rows for rival in met), *rivals.together.values()]
    )
    order = {name: i for i, name in enumerate(entries)}
    comparisons = [
        _compare(rows, order[rival.name], len(order) + k, rival, bill, measures) for k, rival in enumerate(met)
    ]
    comparisons = _adjusted(comparisons, {team.name for team in chosen})
    seeds = {rival.name: k for k, rival in enumerate(met) if rival.baseline == SEEDS_ONLY}
    equal_bills = [
        _compare(rows, len(order) + len(met) + i, len(order) + k, met[k], met[k].bill, measures)
        for i, name in enumerate(rivals.together)
        for k in (seeds[name],)
    ]
    result = Evaluation(
        pool=str(pool.path),
        rows=len(labels),
        best_single=single.id,
        scores=[
            Score(
                name=name,
                members=len(entries[name].weights),
                accuracy_interval=rows.accuracy_interval(i),
                accuracy_gain=rows.accuracy_gain(i, 0),
                nll_gain=rows.nll_gain(i, 0),
                validation=promised.get(name, {}),
                metrics=measures.values(found[name].rows.metrics),
                metric_gains=measures.gains(found[name].rows.metrics, found[single_name].rows.metrics),
                bill=bill,
                over_runs=rivals.over_runs.get(name),
                **found[name].values,
            )
            for name, i in order.items()
        ],
        comparisons=comparisons,
        control_note=rivals.control_note,
        default_note=rivals.default_note,
        verdicts={
            name: verdict(
                [row for row in comparisons if row.name == name],
                len(labels),
                rivals.left_out.get(name, rivals.control_note),
                objectives.get(name, objective),
                name in controls,
                next((row for row in equal_bills if row.name == name), None),
                rivals.over_runs.get(name),
                "; ".join(filter(None, (rivals.half_left_out.get(name), rivals.default_note))),
            )
            for name in entries
            if name != f"({BEST_SINGLE})"
        },
        caution=caution(len(chosen)),
        left_out=left_out,
        members_left_out=dict(pool.left_out),
        metrics_left_out=measures.left_out,
        chance=pool.chance("test"),
        bill=bill,
        equal_bills=equal_bills,
    )
    for team in chosen if save else ():
        write_evaluation(pool, result, team, known)
    if save and teams is None:
        write_evaluations(pool, result, chosen)
    return result


class _Scored(NamedTuple):
    rows: RowScores
    values: dict[str, Any]  # fields of `Score`


def _scored(pool: Pool, entry: Entry, known: dict[str, Any], labels: Array, measures: Measures) -> _Scored:
    found = predictions(pool, entry, known)
    probabilities = vote(entry, found)
    scores, alone = utility(probabilities, labels), member_scores(found, labels)
    accuracy = float(scores["accuracy"] or 0.0)
    hard = any(known[member_id].record.is_labels for member_id in entry.weights)
    values = {
        **({key: value if key == "accuracy" else None for key, value in scores.items()} if hard else scores),
        "mean_member_accuracy": alone.mean_accuracy,
        "best_member_accuracy": alone.best_accuracy,
        "oracle_accuracy": alone.oracle_accuracy,
        "disagreement": alone.disagreement,
        "gain_over_mean_member": 100 * (accuracy - alone.mean_accuracy),
        "gain_over_best_member": 100 * (accuracy - alone.best_accuracy),
    }
    return _Scored(RowScores.of(probabilities, labels, hard, measures), values)


def _rivals(
    pool: Pool,
    members: list[Member],
    chosen: list[Team],
    entries: dict[str, Entry],
    found: dict[str, _Scored],
    baselines: tuple[str, str],
    labels: Array,
    measures: Measures,
    bill: Bill | None,
) -> _Rivals:
    """Every team's baselines: of the pool itself, and what its selector makes of other runs."""
    single, average = baselines
    rivals = [
        _Rival(name, baseline, size, found[same].rows, bill)
        for baseline, size, same in ((BEST_SINGLE, 1, single), (ALL_AVERAGE, len(members), average))
        for name in found
        if name not in (single, same)
        and not (
            entries[name].weights.keys() == entries[same].weights.keys() and found[name].rows.equals(found[same].rows)
        )
    ]
    same_size = SameSize(pool, members, labels)
    hard = any(member.record.is_labels for member in members)  # may be among others of the same size
    for team in chosen:
        if same_size.differs(team):
            if (top := same_size.top_k(team)) is not None:
                rows = RowScores.of(top, labels, hard, measures)
                rivals.append(_Rival(team.name, TOP_K, len(team.members), rows, bill))
            random = same_size.random(team)
            mean = random.mean.hardened(hard)
            rivals.append(_Rival(team.name, RANDOM, len(team.members), mean, bill, random.accuracies))
    selectors = Selectors.of(pool, chosen, average if average == f"({ALL_AVERAGE})" else "")
    best, default = seeds_of_best(pool), seeds_of_default(pool)
    left_out = {name: f"not compared with seeds-only: {why}" for name, why in selectors.left_out.items()}
    together: dict[str, RowScores] = {}
    for baseline, seeds in ((SEEDS_ONLY, best), (DEFAULT_SEEDS, default)):
        for name, made in selectors.on(seeds.complete) if seeds.runs else ():
            if not isinstance(made, str):
                rows = RowScores.of(made.rows, labels, False, measures)
                rivals.append(_Rival(name, baseline, made.members, rows, seeds.bill))
            elif baseline == SEEDS_ONLY:
                left_out[name] = f"not compared with seeds-only: {made}"
    against = [rival.name for rival in rivals if rival.baseline == SEEDS_ONLY]
    for name, made in selectors.on([*members, *best.complete], against) if bill and against else ():
        if not isinstance(made, str):  # too many for brute force: the question stays open
            together[name] = RowScores.of(made.rows, labels, hard, measures)
    halves = select_on_halves(pool, members, selectors, best, hard) if bill else Halves()
    rivals += [
        _Rival(name, HALF, round(mixed.members), mixed.rows, halves.bill, mixed.accuracies)
        for name, mixed in halves.mixed.items()
    ]
    return _Rivals(rivals, together, halves.over_runs, best.note, default.note, left_out, halves.left_out)


def _compare(rows: PairedRows, i: int, j: int, rival: _Rival, bill: Bill | None, measures: Measures) -> Comparison:
    """Vote i, which cost `bill`, against vote j, which is the rival's."""
    test = None if rival.accuracies is not None else mcnemar(rows.votes[i].correct, rows.votes[j].correct)
    return Comparison(
        name=rival.name,
        baseline=rival.baseline,
        baseline_members=rival.members,
        accuracy=rows.accuracy(i),
        baseline_accuracy=rows.accuracy(j),
        nll=rows.nll(i),
        baseline_nll=rows.nll(j),
        accuracy_gain=rows.accuracy_gain(i, j),
        nll_gain=rows.nll_gain(i, j),
        only_team=test.only_first if test else None,
        only_baseline=test.only_second if test else None,
        draws=None if rival.accuracies is None else len(rival.accuracies),
        baseline_accuracy_sd=None if rival.accuracies is None else float(np.std(rival.accuracies, ddof=1)),
        bill=bill,
        baseline_bill=rival.bill,
        metric_gains=measures.gains(rows.votes[i].metrics, rows.votes[j].metrics),
    )


def _adjusted(comparisons: list[Comparison], teams: set[str]) -> list[Comparison]:
    """With p values adjusted for the number of teams that met the same baseline."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(comparisons):
        if row.name in teams and row.accuracy_gain.p_value is not None:
            groups[row.baseline].append(i)
    adjusted = list(comparisons)
    for numbers in groups.values():
        p = holm([comparisons[i].accuracy_gain.p_value or 0.0 for i in numbers])
        for i, value in zip(numbers, p, strict=True):
            adjusted[i] = dataclasses.replace(comparisons[i], p_holm=value)
    return adjusted
