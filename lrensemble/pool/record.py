"""What a member is (its spec) and what came of it (its record)."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lrensemble.errors import UserError
from lrensemble.policies import Policy

Status = Literal["planned", "complete", "diverged", "failed"]
FINISHED = ("complete", "diverged")  # not trained again; both cost their budget


class Strict(BaseModel):
    """Immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Named(BaseModel):
    """A name and parameters for what it names: ``sgd``, or ``{name: sgd, momentum: 0.9}``."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _finite(self) -> Self:
        for key, value in self.parameters.items():
            for number in value if isinstance(value, list | tuple) else [value]:
                if isinstance(number, float) and not math.isfinite(number):
                    raise UserError(f"{self.name}: {key} = {value} is not possible: numbers must be finite")
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={value}" for key, value in self.parameters.items())
        return f"{self.name}({inside})" if inside else self.name


class Training(Strict):
    """How long and on what a member trains."""

    epochs: int = Field(gt=0, le=1_000_000)
    batch_size: int = Field(default=128, gt=0)
    augment: tuple[Literal["crop", "flip"], ...] = ()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class MemberSpec(Strict):
    """Everything that decides what a member becomes, except the data."""

    model: Named
    optimizer: Named
    policy: str
    training: Training
    seed: int = Field(ge=0)

    @field_validator("policy")
    @classmethod
    def _canonical(cls, text: str) -> str:
        return str(Policy.parse(text))

    def id(self, data_fingerprint: str) -> str:
        """Short hash of the spec and the data. Options at their defaults do not count.

        So that a later version that adds an option recognises the members of an older pool.
        """
        spec = self.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps([spec, data_fingerprint], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


class FileInfo(Strict):
    """Size and hash of a file at the moment when the member was finished."""

    bytes: int
    sha256: str


class Record(BaseModel):
    """``record.json``: written when the member is planned, replaced once when it is finished, then immutable.

    No number in it comes from the test split: selection reads records.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)  # a newer version may know more

    id: str
    status: Status
    spec: MemberSpec
    data_fingerprint: str
    created: str
    finished: str | None = None
    reason: str | None = None  # why it failed or diverged
    traceback: str | None = None  # of a failed member
    metrics: dict[str, dict[str, float | None]] = {}  # split -> metric -> value
    costs: dict[str, int | float] = {}  # steps, seconds, parameters
    environment: dict[str, Any] = {}
    files: dict[str, FileInfo] = {}  # path inside the member's folder


class Task(BaseModel):
    """``pool.json``: what all members of a pool have in common; written once."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: int = 1
    name: str
    data: dict[str, Any]
    data_fingerprint: str
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    rows: dict[str, int]  # split -> rows
    normalisation: dict[str, list[float]]  # mean and std of every channel over train
    labels_sha256: dict[str, str]  # val, test: hash of the raw labels
    created: str
    version: str
