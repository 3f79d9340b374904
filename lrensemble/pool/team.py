"""A team: members with weights, the vote they take, and what validation promised."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lrensemble.errors import UserError
from lrensemble.metrics import find_metric
from lrensemble.pool.files import read_model
from lrensemble.pool.shown import team_html
from lrensemble.votes import canonical_vote

LONGEST_NAME = 150
ROUNDING = 1e-6  # of weights that sum to 1

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
MemberId = Annotated[str, Field(pattern=r"^[0-9a-f]{10}$")]


def is_name(text: str) -> bool:
    """Whether a file may be called so: a letter or a digit first, then whatever prints but / \\ and :."""
    return text[:1].isalnum() and len(text) <= LONGEST_NAME and text.isprintable() and not set(text) & set("/\\:")


class Point(BaseModel):
    """One team on the way of a selector to its result."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    members: int = Field(gt=0)
    cost: Cost  # sum of its members' costs, in the team's cost_unit
    score: Finite  # on the validation rows, higher is better


class SelectionStability(BaseModel):
    """What selecting again on random halves of the validation rows showed; scores as in `Point`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    repeats: int = Field(gt=0)
    frequency: dict[MemberId, Share]  # member id -> share of the repeats in which it was chosen
    optimism: Finite  # mean score on the rows that chose the team, minus on the other half
    promised_gain: Finite  # over the best single member, on the rows that chose both
    gain: Finite  # the same on the other half
    overlap: Share  # mean share of members that two repeats have in common


class Team(BaseModel):
    """``teams/<name>.json``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    selector: str
    parameters: dict[str, Any]  # of the selector, so that it can be run again
    members: dict[MemberId, Cost] = Field(min_length=1)  # member id -> weight; they sum to 1
    vote: str = "soft"  # how it was selected, and how it is to be used
    temperatures: dict[MemberId, Positive] = {}  # member id -> temperature, applied before the vote; none: 1
    validation: dict[str, Finite]  # what this team scores on the rows that it was chosen on
    validation_rows: int = Field(gt=0)
    teams_tried: int = Field(ge=0)
    candidates: list[MemberId]  # ids of the members that could have been chosen, sorted
    data_fingerprint: str
    created: str
    cost: Cost | None = None  # of one prediction: the sum of the members' costs
    cost_unit: str = ""
    trajectory: list[Point] = []  # teams on the way, for selectors that go one
    stopped: str = ""  # why the search ended early
    stability: SelectionStability | None = None

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if not is_name(name):
            raise ValueError(f"{name!r} is no name for a team")
        return name

    @field_validator("vote")
    @classmethod
    def _known(cls, vote: str) -> str:
        try:
            return canonical_vote(vote)
        except UserError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        total = math.fsum(self.members.values())
        if abs(total - 1) > ROUNDING:
            raise ValueError(f"its weights sum to {total:.6g}, not to 1")
        if self.temperatures and self.temperatures.keys() != self.members.keys():
            raise ValueError("its temperatures are of other members than its weights")
        for key in ("accuracy", "nll", "brier", "ece"):
            value = self.validation.get(key, 0)
            if value < 0 or (key == "accuracy" and value > 1):
                raise ValueError(f"a validation {key} of {value:g}")
        return self

    def _repr_html_(self) -> str:
        return team_html(self)

    @property
    def objective(self) -> str:
        """What it was selected for."""
        return str(self.parameters.get("objective", "nll"))

    @property
    def is_control(self) -> bool:
        """Whether nobody chose it, so that it is for comparison alone."""
        return self.selector == "random"

    @property
    def is_plain(self) -> bool:
        """Whether it is the weighted mean of its members' probabilities as they are."""
        return self.vote == "soft" and not self.temperatures

    @classmethod
    def read(cls, path: Path) -> Self:
        """The team in a file of its name; `UserError` where it is damaged, or was changed by hand."""
        team = read_model(cls, path, "run lrensemble select again")
        if team.name != path.stem:
            raise UserError(f"{path} is a copy of team {team.name}: a team and its file have one name")
        return team


def best_team(teams: Sequence[Team]) -> Team | None:
    """The one to use: the best on validation by what it was selected for, of two or more members if there is one.

    Where teams were selected for several objectives it is one of the newest team's. Ties: accuracy, then fewer members.
    None where there are only random ones: they are a control, and chance may put them first.
    """
    teams = [team for team in teams if not team.is_control]
    if not teams:
        return None
    objective = max(teams, key=lambda team: team.created).objective
    alike = [team for team in teams if team.objective == objective]
    return min([team for team in alike if len(team.members) > 1] or alike, key=team_order)


def team_to_use(pool: str | Path, teams: Sequence[Team]) -> Team:
    """The best of a pool's teams; `UserError` where none was selected but random ones."""
    team = best_team(teams)
    if team is None:
        raise UserError(f"{pool} has no team to use: lrensemble select {shlex.quote(str(pool))} chooses one")
    return team


def team_order(team: Team) -> tuple[float, float, int, str]:
    """Sorts teams of one objective, best on validation first."""
    value = team.validation.get(team.objective)
    try:
        sign = find_metric(team.objective).sign
    except UserError:  # one of the user's own, that nobody imports here
        value, sign = team.validation.get("nll"), -1
    return (math.inf if value is None else -sign * value, -team.validation["accuracy"], len(team.members), team.name)
