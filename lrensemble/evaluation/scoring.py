"""Selected teams on the test split: scores with intervals, and the baselines that each must beat."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lrensemble.array import Array
from lrensemble.evaluation.control import ControlVotes, against_control, bill_of
from lrensemble.evaluation.measured import Measures
from lrensemble.evaluation.paired import PairedRows, RowScores
from lrensemble.evaluation.results import (
    ALL_AVERAGE,
    BEST_SINGLE,
    RANDOM,
    SEEDS_ONLY,
    TOP_K,
    Bill,
    Comparison,
    Evaluation,
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


class _Rival(NamedTuple):
    """A baseline for one team, before it is compared."""

    name: str  # of the team
    baseline: str
    members: int
    rows: RowScores
    accuracies: Array | None = None  # random: of every draw
    bill: Bill | None = None  # seeds-only: the control's


def evaluate(
    pool: Pool, teams: Teams = None, *, save: bool = True, metrics: Sequence[str] = (), trust: bool = False
) -> Evaluation:
    """Score teams (default: all that were selected) on the test split, and compare them with the baselines.

    The first two scores are the baselines of the pool: the best single member, chosen by validation accuracy, and the
    average of all members. Every team also meets top-k and random teams of its own size, and, when the pool has a
    seeds-only control, what its own selector makes of the control's validation predictions. Nothing found here is
    used for choosing anything. Results are written to ``evaluations/<team>.json``, and those of all teams together to
    ``evaluation.json``, unless `save` is False.

    Parameters
    ----------
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

    baselines = (single_name, average_name)
    rivals, control = _rivals(pool, members, chosen, entries, found, baselines, labels, measures)
    objectives = {team.name: team.objective for team in chosen}
    controls = {team.name for team in chosen if team.is_control}
    objective = next(iter(objectives.values())) if len(set(objectives.values())) == 1 else "nll"  # of the baselines
    hard = any(member.record.is_labels for member in members)  # may be in any team
    together = [RowScores.of(votes, labels, hard, measures) for votes in control.together.values()]
    rows = PairedRows([*(one.rows for one in found.values()), *(rival.rows for rival in rivals), *together])
    order = {name: i for i, name in enumerate(entries)}
    comparisons = [_compare(rows, order[rival.name], len(order) + k, rival, measures) for k, rival in enumerate(rivals)]
    comparisons = _adjusted(comparisons, {team.name for team in chosen})
    seeds = {rival.name: len(order) + k for k, rival in enumerate(rivals) if rival.baseline == SEEDS_ONLY}
    equal_bills = [
        _compare(rows, len(order) + len(rivals) + k, seeds[name], rivals[seeds[name] - len(order)], measures)
        for k, name in enumerate(control.together)
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
                **found[name].values,
            )
            for name, i in order.items()
        ],
        comparisons=comparisons,
        control_note=control.note,
        verdicts={
            name: verdict(
                [row for row in comparisons if row.name == name],
                len(labels),
                control.left_out.get(name, control.note),
                objectives.get(name, objective),
                name in controls,
                next((row for row in equal_bills if row.name == name), None),
            )
            for name in entries
            if name != f"({BEST_SINGLE})"
        },
        caution=caution(len(chosen)),
        left_out=left_out,
        members_left_out=dict(pool.left_out),
        metrics_left_out=measures.left_out,
        chance=pool.chance("test"),
        bill=bill_of(pool.runs) if pool.runs else None,
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
) -> tuple[list[_Rival], ControlVotes]:
    """Every team's baselines, and what the control says."""
    single, average = baselines
    rivals = [
        _Rival(name, baseline, size, found[same].rows)
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
                rivals.append(_Rival(team.name, TOP_K, len(team.members), rows))
            random = same_size.random(team)
            rivals.append(_Rival(team.name, RANDOM, len(team.members), random.mean.hardened(hard), random.accuracies))
    control = against_control(pool, chosen, average if average == f"({ALL_AVERAGE})" else "")
    rivals += [
        _Rival(name, SEEDS_ONLY, control.sizes[name], RowScores.of(votes, labels, False, measures), bill=control.bill)
        for name, votes in control.votes.items()
    ]
    return rivals, control


def _compare(rows: PairedRows, i: int, j: int, rival: _Rival, measures: Measures) -> Comparison:
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
