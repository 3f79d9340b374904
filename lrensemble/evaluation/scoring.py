"""Selected teams on the test split: scores with intervals, baselines, and the seeds-only control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.evaluation.control import ALL_AVERAGE, Comparison, against_control
from lrensemble.evaluation.paired import LEVEL, Gain, PairedRows
from lrensemble.evaluation.verdict import verdict
from lrensemble.metrics import brier_rows, expected_calibration_error
from lrensemble.pool import Member, Pool, Team
from lrensemble.pool.files import now, write_json
from lrensemble.selection import team_vote

Array = NDArray[Any]
BEST_SINGLE = "(best single)"


@dataclass(frozen=True)
class Score:
    """A team, or a baseline, on the test split. Intervals are 95 % bootstrap intervals over the test rows."""

    name: str
    members: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    nll: float
    brier: float
    ece: float
    accuracy_gain: Gain  # over the best single member, paired, in points (1 point = 0.01 of accuracy)
    nll_gain: Gain  # over the best single member, paired, in nats; positive = better
    validation: dict[str, float]  # what it scored on the rows that it was chosen on


@dataclass(frozen=True)
class Evaluation:
    """Everything that `evaluate` found, and how sure it is."""

    pool: str
    rows: int
    best_single: str  # id of the member with the best validation accuracy
    scores: list[Score]
    control: list[Comparison]
    control_note: str
    verdicts: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {"split": "test", "interval_level": LEVEL, **asdict(self)}


def evaluate(pool: Pool, teams: Sequence[Team | str] | Team | str | None = None) -> Evaluation:
    """Score teams (default: all that were selected) and the two baselines on the test split.

    The first two scores are the baselines: the best single member, chosen by validation accuracy, and the average
    of all members. When the pool has a seeds-only control, every team's selector runs on the control's validation
    predictions too, and the two teams meet on the test rows. Results are written to ``evaluations/<team>.json``.

    Raises
    ------
    UserError
        No team, unknown team, a team whose members are gone, damaged predictions.
    """
    chosen = _resolve(pool, teams)
    members = pool.usable()
    single = pool.best_single()
    entries = _with_baselines(chosen, {single.id: 1.0}, {member.id: 1 / len(members) for member in members})
    known = {member.id: member for member in members}
    votes = {name: _vote(pool, known, entry) for name, entry in entries.items()}
    promised = {BEST_SINGLE: {k: v for k, v in single.record.metrics["val"].items() if v is not None}}
    promised |= {team.name: team.validation for team in chosen}

    labels = pool.labels("test")
    rows = PairedRows(list(votes.values()), labels)
    scores = [
        Score(
            name=name,
            members=len(entries[name].weights),
            accuracy=rows.accuracy(i),
            accuracy_interval=rows.accuracy_interval(i),
            nll=rows.nll(i),
            brier=float(brier_rows(vote, labels).mean()),
            ece=expected_calibration_error(vote, labels),
            accuracy_gain=rows.accuracy_gain(i, 0),
            nll_gain=rows.nll_gain(i, 0),
            validation=promised.get(name, {}),
        )
        for i, (name, vote) in enumerate(votes.items())
    ]
    control = against_control(pool, chosen, {name: votes[name] for name in votes if name != BEST_SINGLE}, labels)
    result = Evaluation(
        pool=str(pool.path),
        rows=len(labels),
        best_single=single.id,
        scores=scores,
        control=control.rows,
        control_note=control.note,
        verdicts={
            score.name: verdict(
                score.accuracy_gain,
                control.gain(score.name),
                len(labels),
                control.left_out.get(score.name, control.note),
            )
            for score in scores[1:]
        },
    )
    if scores[0].name != BEST_SINGLE:
        result.verdicts[scores[0].name] = "this team is the best single member"
    for team in chosen:
        _write(pool, result, team.name)
    return result


class _Entry(NamedTuple):
    """What takes part: members with weights (by id), the vote they take, and their temperatures where they have any."""

    weights: dict[str, float]
    vote: str = "soft"
    temperatures: dict[str, float] | None = None


def _with_baselines(teams: list[Team], single: dict[str, float], average: dict[str, float]) -> dict[str, _Entry]:
    """Name -> entry: the best single member first, the average of all second, then the teams.

    A baseline that was selected as a team too goes by the team's name, and appears once.
    """
    entries = {}
    for baseline, weights in ((BEST_SINGLE, single), (ALL_AVERAGE, average)):
        same = (team.name for team in teams if team.is_plain and team.members == weights)
        entries[next(same, baseline)] = _Entry(weights)
    return entries | {team.name: _Entry(team.members, team.vote, team.temperatures) for team in teams}


def _write(pool: Pool, result: Evaluation, name: str) -> None:
    """``evaluations/<name>.json``."""
    data = {
        "created": now(),
        "split": "test",
        "rows": result.rows,
        "best_single": result.best_single,
        "score": next(asdict(score) for score in result.scores if score.name == name),
        "control": next((asdict(row) for row in result.control if row.name == name), None),
        "verdict": result.verdicts[name],
    }
    write_json(pool.path / "evaluations" / f"{name}.json", data)


def _resolve(pool: Pool, teams: Sequence[Team | str] | Team | str | None) -> list[Team]:
    if teams is None:
        chosen = pool.teams
        if not chosen:
            raise UserError(f"{pool.path} has no teams yet: run lrensemble select {pool.path}")
    else:
        wanted = [teams] if isinstance(teams, Team | str) else list(teams)
        chosen = [pool.team(team) if isinstance(team, str) else team for team in wanted]
    for team in chosen:
        if team.data_fingerprint != pool.task.data_fingerprint:
            raise UserError(f"team {team.name} was selected on other data than {pool.path} holds: select again")
    return chosen


def _vote(pool: Pool, known: dict[str, Member], entry: _Entry) -> Array:
    """The team's own vote on the test split: (N, C)."""
    if missing := [member_id for member_id in entry.weights if member_id not in known]:
        raise UserError(
            f"member {missing[0]} of the team is not in {pool.path} any more: select again. "
            f"{did_you_mean(missing[0], known)}"
        )
    predictions = pool.predictions("test", [known[member_id] for member_id in entry.weights])
    for member_id, prediction in zip(entry.weights, predictions, strict=True):
        if not np.isfinite(prediction).all():
            raise UserError(f"the test predictions of member {member_id} are not finite: move it out of the pool")
    return team_vote(
        predictions,
        np.array(list(entry.weights.values())),
        entry.vote,
        np.array([entry.temperatures[i] for i in entry.weights]) if entry.temperatures else None,
    )
