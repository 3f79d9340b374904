"""What `evaluate` found: ``evaluations/<team>.json``, bound to its team, and ``evaluation.json``, of all teams."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from lrensemble.errors import UserError
from lrensemble.evaluation.measured import Measures
from lrensemble.evaluation.results import Bill, Evaluation
from lrensemble.evaluation.teams import TEST
from lrensemble.pool import Member, Pool, Team
from lrensemble.pool.files import now, read_model, write_sealed
from lrensemble.pool.record import FINISHED, Record
from lrensemble.version import __version__

FOLDER = "evaluations"
ALL = "evaluation.json"
Share = Annotated[float, Field(ge=0, le=1)]


class StoredScore(BaseModel):
    """What is read back of a `Score`; the rest is kept as it is."""

    model_config = ConfigDict(extra="allow", frozen=True)

    members: int = Field(gt=0)
    accuracy: Share
    accuracy_interval: tuple[Share, Share]
    nll: float = Field(ge=0, allow_inf_nan=False)
    validation: dict[str, float]
    bill: Bill | None = None


class Stored(BaseModel):
    """An evaluation as it lies in a pool. Older ones do not know their team's `fingerprint`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    created: str
    rows: int = Field(gt=0)
    score: StoredScore
    verdict: str
    fingerprint: str | None = None


class StoredAll(BaseModel):
    """``evaluation.json``."""

    basis: str
    evaluation: Evaluation


def fingerprint(team: Team, members: Mapping[str, Member]) -> str:
    """Hash of all that decides what a team scores: members, weights, vote, temperatures and test predictions.

    The name has no part in it, and neither has a clock: the same team selected again is the same.
    """
    files = {i: members[i].record.files.get(TEST) for i in team.members}
    parts = {
        "members": team.members,
        "vote": team.vote,
        "temperatures": team.temperatures,
        "data": team.data_fingerprint,
        "predictions": {i: info and info.sha256 for i, info in files.items()},
    }
    return _hash(parts)


def _hash(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _basis(pool: Pool, teams: Sequence[Team]) -> str:
    """Hash of all that the evaluation of these teams depends on; more than a team's own `fingerprint`.

    Everyone in the pool and in its control is a baseline, and p values depend on how many teams there are.
    """
    parts = [pool, *([pool.control] if pool.control else [])]
    return _hash(
        {
            "version": __version__,
            "verdicts": "five lines",  # else their words are of before
            "data": [part.task.data_fingerprint for part in parts],
            "teams": [team.model_dump(mode="json", exclude={"created"}) for team in teams],
            "usable": [member.id for member in pool.usable("val", "test")],
            "finished": [[_facts(m.record) for m in part.readable if m.record.status in FINISHED] for part in parts],
        }
    )


def _facts(record: Record) -> dict[str, Any]:
    """What an evaluation can read of a member; its id stands for its spec, hashes for its predictions."""
    facts = record.model_dump(mode="json", include={"id", "status", "parent", "metrics", "costs", "outputs"})
    return {**facts, "files": {k: info.sha256 for k, info in record.files.items() if k.startswith("predictions/")}}


def write_evaluations(pool: Pool, result: Evaluation, teams: Sequence[Team]) -> None:
    """Keep what was found of all teams of a pool."""
    write_sealed(pool.path / ALL, {"created": now(), "basis": _basis(pool, teams), "evaluation": asdict(result)})


def stored_evaluation(pool: Pool, teams: Sequence[Team]) -> Evaluation | None:
    """What `evaluate` finds of all these teams, if it has found it before and nothing has changed since.

    Metrics that it found beyond those that it would find now stay: they were asked for.
    """
    try:
        found = read_model(StoredAll, pool.path / ALL)
    except UserError:  # it is found again
        return None
    there = found.evaluation.scores[0].metrics.keys() | found.evaluation.metrics_left_out.keys()
    asked = Measures(pool, teams)
    if found.basis != _basis(pool, teams) or not there >= set(asked.names):
        return None
    return dataclasses.replace(
        found.evaluation,
        pool=str(pool.path),
        left_out={},
        members_left_out=dict(pool.left_out),
        metrics_left_out=found.evaluation.metrics_left_out | asked.left_out,
    )


def write_evaluation(pool: Pool, result: Evaluation, team: Team, members: Mapping[str, Member]) -> None:
    """Keep what was found of one team; `members` by id."""
    data = {
        "created": now(),
        "split": "test",
        "rows": result.rows,
        "fingerprint": fingerprint(team, members),
        "best_single": result.best_single,
        "score": asdict(result.score(team.name)),
        "comparisons": [asdict(row) for row in result.comparisons if row.name == team.name],
        "control": result.control_note,
        "verdict": result.verdicts[team.name],
        "caution": result.caution,
    }
    write_sealed(pool.file_of_team(FOLDER, team.name), data)


def read_evaluation(pool: Pool, team: Team) -> tuple[dict[str, Any] | None, str]:
    """The evaluation of this very team, or None and why there is none.

    Raises
    ------
    UserError
        The file is damaged or was changed.
    """
    path = pool.file_of_team(FOLDER, team.name)
    again = f"lrensemble evaluate {shlex.quote(str(pool.path))} --team {team.name}"
    if not os.path.lexists(path):
        return None, f"team {team.name} was not evaluated on the test split: {again}"
    found = read_model(Stored, path, f"run {again}")
    if found.fingerprint is None:  # of an older version: all that it says of its team
        same = (
            found.created >= team.created
            and found.rows == pool.task.rows["test"]
            and found.score.members == len(team.members)
            and found.score.validation == team.validation
        )
    else:
        same = found.fingerprint == fingerprint(team, pool.members_of(team))
    if not same:
        return None, f"{path} is of another team of this name, its numbers are not used: {again}"
    return found.model_dump(mode="json"), ""
