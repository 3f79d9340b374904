"""Selected teams on the test split: scores with intervals, baselines, and the seeds-only control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.evaluation.verdict import Gain, verdict
from lrensemble.metrics import (
    bootstrap_means,
    brier_rows,
    correct_rows,
    expected_calibration_error,
    nll_rows,
    percentile_interval,
)
from lrensemble.pool import Member, Pool, Team
from lrensemble.pool.files import now, write_json
from lrensemble.selection import make_selector, soft_vote

Array = NDArray[Any]
LEVEL = 0.95
BEST_SINGLE, ALL_AVERAGE = "(best single)", "(all-average)"


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
class Comparison:
    """The same selector on the seeds-only control."""

    name: str
    accuracy: float
    control_accuracy: float
    nll: float
    control_nll: float
    accuracy_gain: Gain  # of the LR pool's team over the control's team, paired, in points
    nll_gain: Gain  # in nats; positive = better


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


class _Rows:
    """Per-row scores of many (N, C) votes on the same test rows, with one bootstrap for all of them."""

    def __init__(self, votes: Sequence[Array], labels: Array) -> None:
        self.count = len(votes)
        rows = np.stack([rule(vote, labels) for rule in (correct_rows, nll_rows) for vote in votes])
        self.means = rows.mean(1)
        self.samples = bootstrap_means(rows)  # (resamples, 2 * count)

    def accuracy(self, i: int) -> float:
        return float(self.means[i])

    def nll(self, i: int) -> float:
        return float(self.means[self.count + i])

    def accuracy_interval(self, i: int) -> tuple[float, float]:
        return percentile_interval(self.samples[:, i], LEVEL)

    def accuracy_gain(self, i: int, j: int) -> Gain:
        """Points of accuracy that vote i has over vote j."""
        return self._difference(i, j, 100.0)

    def nll_gain(self, i: int, j: int) -> Gain:
        """Nats of NLL that vote i saves over vote j."""
        return self._difference(self.count + i, self.count + j, -1.0)

    def _difference(self, a: int, b: int, factor: float) -> Gain:
        difference = factor * (self.samples[:, a] - self.samples[:, b])
        return Gain(float(factor * (self.means[a] - self.means[b])), *percentile_interval(difference, LEVEL))


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
    votes = {name: _vote(pool, known, weights) for name, weights in entries.items()}
    promised = {BEST_SINGLE: {k: v for k, v in single.record.metrics["val"].items() if v is not None}}
    promised |= {team.name: team.validation for team in chosen}

    labels = pool.labels("test")
    rows = _Rows(list(votes.values()), labels)
    scores = [
        Score(
            name=name,
            members=len(entries[name]),
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
    comparisons, note = _against_control(pool, chosen, votes, labels)
    over_control = {comparison.name: comparison.accuracy_gain for comparison in comparisons}
    result = Evaluation(
        pool=str(pool.path),
        rows=len(labels),
        best_single=single.id,
        scores=scores,
        control=comparisons,
        control_note=note,
        verdicts={
            score.name: verdict(score.accuracy_gain, over_control.get(score.name), len(labels), note)
            for score in scores[1:]
        },
    )
    for team in chosen:
        _write(pool, result, team.name)
    return result


def _with_baselines(
    teams: list[Team], single: dict[str, float], average: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Name -> weights: the best single member first, the average of all second, then the teams.

    A baseline that was selected as a team too goes by the team's name, and appears once.
    """
    entries = {}
    for baseline, weights in ((BEST_SINGLE, single), (ALL_AVERAGE, average)):
        entries[next((team.name for team in teams if team.members == weights), baseline)] = weights
    return entries | {team.name: team.members for team in teams}


def _write(pool: Pool, result: Evaluation, name: str) -> None:
    """``evaluations/<name>.json``."""
    data = {
        "created": now(),
        "split": "test",
        "rows": result.rows,
        "best_single": result.best_single,
        "score": next(asdict(score) for score in result.scores if score.name == name),
        "control": next((asdict(row) for row in result.control if row.name == name), None),
        "verdict": result.verdicts.get(name, "this team is the best single member"),
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


def _vote(pool: Pool, known: dict[str, Member], weights: dict[str, float]) -> Array:
    """Soft vote of members (id -> weight) on the test split: (N, C)."""
    if missing := [member_id for member_id in weights if member_id not in known]:
        raise UserError(
            f"member {missing[0]} of the team is not in {pool.path} any more: select again. "
            f"{did_you_mean(missing[0], known)}"
        )
    predictions = pool.predictions("test", [known[member_id] for member_id in weights])
    vote = np.zeros(predictions.shape[1:])
    for weight, prediction in zip(weights.values(), predictions, strict=True):
        vote += weight * np.asarray(prediction, dtype=np.float64)
    return vote


def _against_control(
    pool: Pool, teams: list[Team], votes: dict[str, Array], labels: Array
) -> tuple[list[Comparison], str]:
    """Compare with the seeds-only control; an empty list and the reason when there is none to compare with."""
    control = pool.control
    if control is None:
        return [], "no seeds-only control was trained (control: true in the configuration trains one)"
    if control.task.data_fingerprint != pool.task.data_fingerprint:
        raise UserError(f"{control.path} holds other data than {pool.path}: delete it and train again")
    spec = pool.best_single().record.spec
    same = [m for m in control.complete if m.record.spec.model_copy(update={"seed": spec.seed}) == spec]
    wanted = sum(member.record.status in ("complete", "diverged") for member in pool.members)
    if len(same) < wanted:
        return (
            [],
            f"the seeds-only control has {len(same)} of {wanted} members with the best policy {spec.policy}: "
            "run lrensemble train again",
        )
    same = same[:wanted]
    val_labels = control.labels("val")
    val = np.asarray(control.predictions("val", same))
    test = np.asarray(control.predictions("test", same))
    selectors = {team.name: make_selector(team.selector, **team.parameters) for team in teams}
    if ALL_AVERAGE in votes:
        selectors[ALL_AVERAGE] = make_selector("all")
    note = f"seeds-only control: {len(same)} members, all {spec.policy}, fresh seeds"
    pairs, names = [], []
    for name, selector in selectors.items():
        try:
            selector.fit(val, val_labels)
        except UserError as error:  # the control can have more members than the pool: too many for brute force
            note += f"; {name} left out: {error}"
            continue
        names.append(name)
        pairs += [votes[name], soft_vote(selector.weights_, test)]
    rows = _Rows(pairs, labels)
    comparisons = [
        Comparison(
            name=name,
            accuracy=rows.accuracy(i),
            control_accuracy=rows.accuracy(i + 1),
            nll=rows.nll(i),
            control_nll=rows.nll(i + 1),
            accuracy_gain=rows.accuracy_gain(i, i + 1),
            nll_gain=rows.nll_gain(i, i + 1),
        )
        for name, i in zip(names, range(0, len(pairs), 2), strict=True)
    ]
    return comparisons, note
