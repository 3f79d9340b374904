"""A team: members with weights, the vote they take, and what validation promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, field_validator

from lrensemble.pool.files import read_model
from lrensemble.selection import canonical_vote


class Point(BaseModel):
    """One team on the way of a selector to its result."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    members: int
    cost: float  # sum of its members' costs, in the team's cost_unit
    score: float  # on the validation rows, higher is better


class SelectionStability(BaseModel):
    """What selecting again on random halves of the validation rows showed; scores as in `Point`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    repeats: int
    frequency: dict[str, float]  # member id -> share of the repeats in which it was chosen
    optimism: float  # mean score on the rows that chose the team, minus on the other half
    promised_gain: float  # over the best single member, on the rows that chose both
    gain: float  # the same on the other half
    overlap: float  # mean share of members that two repeats have in common


class Team(BaseModel):
    """``teams/<name>.json``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    selector: str
    parameters: dict[str, Any]  # of the selector, so that it can be run again
    members: dict[str, float]  # member id -> weight; they sum to 1
    vote: str = "soft"  # how it was selected, and how it is to be used
    temperatures: dict[str, float] = {}  # member id -> temperature, applied before the vote; none: 1
    validation: dict[str, float]  # what this team scores on the rows that it was chosen on
    validation_rows: int
    teams_tried: int
    candidates: list[str]  # ids of the members that could have been chosen, sorted
    data_fingerprint: str
    created: str
    cost: float | None = None  # of one prediction: the sum of the members' costs
    cost_unit: str = ""
    trajectory: list[Point] = []  # teams on the way, for selectors that go one
    stopped: str = ""  # why the search ended early
    stability: SelectionStability | None = None

    @field_validator("vote")
    @classmethod
    def _known(cls, vote: str) -> str:
        return canonical_vote(vote)

    @property
    def is_plain(self) -> bool:
        """Whether it is the weighted mean of its members' probabilities as they are."""
        return self.vote == "soft" and not self.temperatures

    @classmethod
    def read(cls, path: Path) -> Self:
        return read_model(cls, path, "run lrensemble select again")
