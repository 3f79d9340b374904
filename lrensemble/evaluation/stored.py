"""``evaluations/<team>.json``: what `evaluate` found, bound to the team that it was found of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from lrensemble.evaluation.results import Evaluation
from lrensemble.evaluation.teams import TEST
from lrensemble.pool import Member, Pool, Team
from lrensemble.pool.files import now, read_model, write_sealed

FOLDER = "evaluations"
Share = Annotated[float, Field(ge=0, le=1)]


class StoredScore(BaseModel):
    """What is read back of a `Score`; the rest is kept as it is."""

    model_config = ConfigDict(extra="allow", frozen=True)

    members: int = Field(gt=0)
    accuracy: Share
    accuracy_interval: tuple[Share, Share]
    nll: float = Field(ge=0, allow_inf_nan=False)
    validation: dict[str, float]


class Stored(BaseModel):
    """An evaluation as it lies in a pool. Older ones do not know their team's `fingerprint`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    created: str
    rows: int = Field(gt=0)
    score: StoredScore
    verdict: str
    fingerprint: str | None = None


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
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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
    again = f"lrensemble evaluate {pool.path} --team {team.name}"
    if not path.is_file():
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
        members = {i: Member(pool.path / "members" / i) for i in team.members}
        same = found.fingerprint == fingerprint(team, members)
    if not same:
        return None, f"{path} is of another team of this name, its numbers are not used: {again}"
    return found.model_dump(mode="json"), ""
