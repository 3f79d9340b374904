"""Every number of a pool's report, before anything is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lrensemble.diversity import pairwise
from lrensemble.errors import UserError
from lrensemble.evaluation import Evaluation, evaluate
from lrensemble.evaluation.stored import stored_evaluation
from lrensemble.evaluation.teams import check_test_predictions, whole_teams
from lrensemble.metrics import check_finite, summary
from lrensemble.pool import Member, Pool, Team, best_team
from lrensemble.pool.energy import own_joules
from lrensemble.pool.fastest import Fastest, read_fastest
from lrensemble.pool.files import now
from lrensemble.pool.member import count_statuses
from lrensemble.report.diversity_info import best_first
from lrensemble.report.page.answer import Headline, answer
from lrensemble.report.page.calibration import ReliabilityCurve, calibration_of
from lrensemble.report.page.changes import (
    Changes,
    Confusion,
    RiskCurve,
    changes_of,
    confusion_of,
    risk_curves,
    votes_of,
)
from lrensemble.report.page.costs import Costs, costs_of
from lrensemble.report.page.curves import (
    History,
    LRCurve,
    family_of,
    histories,
    lr_curves,
    peak_lr_of_lost,
    read_history,
)
from lrensemble.report.page.reproduce import Recipe, recipe
from lrensemble.report.page.teams import METRIC, Teams, score_teams_of_all_sizes
from lrensemble.report.page.why import Seat, seats_of
from lrensemble.version import __version__


@dataclass(frozen=True)
class MemberRow:
    """One member; number 1 has the best validation accuracy, and 0 is a member that is not complete."""

    number: int
    id: str
    label: str
    seed: int
    model: str
    source: str
    status: str
    reason: str
    weight: float  # in the report's team
    val: dict[str, float | None]
    test: dict[str, float | None]
    costs: dict[str, int | float]
    joules: float | None  # of its training; of derived members None: their run has it
    family: str  # of its policy; empty where it has none
    peak_lr: float | None


@dataclass(frozen=True)
class Report:
    """What the page shows. Accuracies are shares, gains points (1 point = 0.01), NLL in nats.

    Attributes
    ----------
    members, others : list of MemberRow
        The complete ones, best validation accuracy first, and the rest.
    team : Team or None
        The team that the page is about; the others are in the evaluation.
    pairs : list of list of float, or None
        Disagreement of all pairs of members on validation, in the order of their numbers.
    teams : Teams or None
        None for one member.
    """

    pool: str
    name: str
    created: str
    version: str
    rows: dict[str, int]
    chance: dict[str, float]  # accuracy of guessing, of val and test
    class_names: tuple[str, ...]
    data: dict[str, Any]
    answer: Headline
    team: Team | None
    why_team: str
    selected: list[Team]
    evaluation: Evaluation | None
    members: list[MemberRow]
    others: list[MemberRow]
    lr: list[LRCurve]
    histories: list[History]
    pairs: list[list[float]] | None
    teams: Teams | None
    seats: list[Seat]
    changes: Changes | None  # None without a team of two or more
    confusion: Confusion
    calibration: list[ReliabilityCurve]
    risk: list[RiskCurve]
    costs: Costs
    fastest: Fastest | None
    recipe: Recipe
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; of test rows their numbers, without the data."""
        changes = asdict(self.changes) if self.changes else None
        for row in (*changes["fixed_rows"], *changes["broken_rows"]) if changes else ():
            del row["example"]
        return {**vars(self), "evaluation": self.evaluation and self.evaluation.to_dict(), "changes": changes}


def report_info(
    pool: Pool,
    team: str | None = None,
    tell: Callable[[str], None] = lambda stage: None,
    *,
    show_rows: bool = True,
) -> Report:
    """Gather the numbers of a report. Reads the test split, and writes nothing.

    What `evaluate` found last is taken over where nothing that it depends on has changed since; else it is found anew.

    `team` is the name of the team that the page is about. Default: of the teams of two or more members the one with
    the best validation score of what it was selected for. What the test split says has no part in that.
    `tell` is told what begins. `show_rows`: the data are read for the pictures or texts of a few test rows.

    Raises
    ------
    UserError
        No complete member, no such team, damaged files.
    """
    check_test_predictions(pool, pool.usable())
    members = best_first(pool, "val", "test")
    numbers = {member.id: number for number, member in enumerate(members, 1)}
    labels = {split: pool.labels(split) for split in ("val", "test")}
    predictions = {split: pool.predictions(split, members) for split in labels}
    for split, found in predictions.items():
        for member, array in zip(members, found, strict=True):
            check_finite(array, f"the {split} predictions of member {member.id}", ": move it out of the pool")
    selected, left_out = whole_teams(pool, "val", "test")
    chosen = _chosen(pool, selected, team)
    tell("scoring the teams on the test split")
    evaluation = stored_evaluation(pool, selected) or evaluate(pool, selected, save=False) if chosen else None
    notes = [f"Team {name} is left out: {why}." for name, why in left_out.items()]
    if evaluation:
        notes += [f"Left out: {name}: {why}." for name, why in evaluation.metrics_left_out.items()]
    test: list[dict[str, float | None]] = [dict(summary(np.asarray(p), labels["test"])) for p in predictions["test"]]
    for scores, member in zip(test, members, strict=True):
        if member.record.is_labels:
            scores |= dict.fromkeys(("nll", "brier", "ece"))
    rest = [member for member in pool.members if member.id not in numbers]
    weights = chosen.members if chosen else {}
    numbered = [(numbers[member.id], member) for member in members]
    curves, logged = lr_curves(numbered), histories(numbered)
    peaks = {number: max(curve.lr) for curve in curves for number in curve.members}
    best = pool.best_single(members)
    votes = votes_of(pool, chosen, best)
    tell(f"scoring teams of all sizes of {len(members)} members")
    return Report(
        pool=str(pool.path),
        name=pool.task.name,
        created=now(),
        version=__version__,
        rows=pool.task.rows,
        chance={split: pool.chance(split) for split in labels},
        class_names=pool.task.class_names,
        data=pool.task.data,
        answer=answer(evaluation, chosen, len(members), pool.path),
        team=chosen,
        why_team="asked for"
        if team
        else f"of the teams of two or more the best on validation by {chosen.objective if chosen else 'nll'}",
        selected=selected,
        evaluation=evaluation,
        members=[_row(n, m, weights.get(m.id, 0.0), test[n - 1], peaks.get(n)) for n, m in numbered],
        others=[_other(pool, member) for member in rest],
        lr=curves,
        histories=logged,
        pairs=pairwise(predictions["val"], labels["val"], METRIC).tolist() if len(members) > 1 else None,
        teams=score_teams_of_all_sizes(predictions, labels, hard=any(m.record.is_labels for m in members))
        if len(members) > 1
        else None,
        seats=seats_of(pool, chosen, numbers, labels) if chosen else [],
        changes=changes_of(pool, votes, labels["test"], show=show_rows),
        confusion=confusion_of(votes[-1], labels["test"]),
        calibration=calibration_of(votes, labels["test"]),
        risk=risk_curves(votes, labels["test"]),
        costs=costs_of(pool, chosen, best),
        fastest=read_fastest(pool),
        recipe=recipe(pool, chosen),
        notes=notes + _notes(pool, rest, members, [m for m in members if not read_history(m)]),
    )


def _chosen(pool: Pool, teams: list[Team], name: str | None) -> Team | None:
    if name is not None:
        team = pool.team(name)
        pool.members_of(team, "val", "test")
        return team
    return best_team(teams) if teams else None


def _other(pool: Pool, member: Member) -> MemberRow:
    """A member that is not complete, or damaged: its record, or what its record says that it has."""
    if why := pool.left_out.get(member.id):
        return MemberRow(0, member.id, "", 0, "", "", "damaged", why, 0.0, {}, {}, {}, None, "", None)
    return _row(0, member, 0.0, {}, peak_lr_of_lost(member, pool.task.rows.get("train", 0)))


def _row(number: int, member: Member, weight: float, test: dict[str, float | None], peak_lr: float | None) -> MemberRow:
    record = member.record
    return MemberRow(
        number=number,
        id=member.id,
        label=record.spec.label,
        seed=record.spec.seed,
        model=str(record.spec.model),
        source=record.spec.source,
        status=member.status,
        reason=record.reason or "",
        weight=weight,
        val=record.val,
        test=test,
        costs=record.costs,
        joules=own_joules(member),
        family=family_of(member),
        peak_lr=peak_lr,
    )


def _notes(pool: Pool, rest: list[Member], members: list[Member], unlogged: list[Member]) -> list[str]:
    notes = []
    if rest:
        what = count_statuses(rest, pool.left_out)
        notes.append(f"{len(rest)} of {len(rest) + len(members)} members are not complete ({what}) and in no team.")
    for member in unlogged:
        try:
            member.history()
        except UserError as error:
            notes.append(str(error))
    notes += [f"Left out: {why}." for why in pool.left_out.values()]
    if unlogged:
        notes.append(f"{len(unlogged)} of {len(members)} members have no training history: they have no curves here.")
    test = pool.task.rows["test"]
    if test < 2000:
        notes.append(
            f"The test split has {test:,} rows: one row is {100 / test:.2f} points of accuracy, and small differences "
            "cannot be told from chance."
        )
    return notes
