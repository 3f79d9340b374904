"""A team: members with weights, and what validation promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lrensemble.errors import UserError
from lrensemble.pool.files import read_text


class Team(BaseModel):
    """``teams/<name>.json``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    selector: str
    parameters: dict[str, Any]  # of the selector, so that it can be run again
    members: dict[str, float]  # member id -> weight; they sum to 1
    validation: dict[str, float]  # what this team scores on the rows that it was chosen on
    validation_rows: int
    teams_tried: int
    candidates: list[str]  # ids of the members that could have been chosen, sorted
    data_fingerprint: str
    created: str

    @classmethod
    def read(cls, path: Path) -> Self:
        try:
            return cls.model_validate_json(read_text(path))
        except ValidationError as error:
            raise UserError(
                f"{path}: cut off or damaged ({error.errors()[0]['msg']}): run lrensemble select again"
            ) from None
