"""``team.json``: all about an exported team that is not in its graph. ``README.md`` beside it says it for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lrensemble.errors import UserError
from lrensemble.opening import file_hash
from lrensemble.pool import Named
from lrensemble.pool.files import read_model
from lrensemble.pool.record import FileInfo
from lrensemble.pool.timings import Timing
from lrensemble.tabular import Column
from lrensemble.tasks.text import TextForm

FORMAT = 1
NAME = "team.json"


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Frames(Part):
    """How a recording of an event camera becomes a row (`EventTask`).

    Attributes
    ----------
    window : left, top, width, height on the sensor
    steps : time steps of a pass: the bins, or of ``carsnn`` those that one frame is shown for
    """

    protocol: str
    window: tuple[int, int, int, int]
    bin_us: int = Field(ge=1)
    bins: int = Field(ge=1)
    crops: int = Field(ge=1)
    steps: int = Field(ge=1)

    @property
    def time_step(self) -> float:
        """Seconds."""
        return 1e-6 * self.bin_us / (self.steps if self.protocol == "carsnn" else 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row."""
        return (self.bins * self.crops, 2, self.window[3], self.window[2])


class Preprocessing(Part):
    """What is done to a row before the graph, which normalises by itself.

    Attributes
    ----------
    input_shape : of one row; (channels, height, width) of images
    convert : images of another mode (grey, palette, with transparency) become RGB, as for training
    resize : images of another size are resized bilinearly, as for training
    dtype, range : of the training images; None where the data were not at hand at the export
    columns : how the cells of a CSV file become the features of a row
    frames : how recordings of an event camera become rows
    mean, std : of every channel or feature; applied in the graph
    text : how rows of texts become tokens
    """

    input_shape: tuple[int, ...]
    convert: bool = False
    resize: bool = False
    dtype: str | None = None
    range: tuple[float, float] | None = None
    columns: tuple[Column, ...] = ()
    frames: Frames | None = None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    text: TextForm | None = None

    @property
    def is_image(self) -> bool:
        return len(self.input_shape) == 3

    @model_validator(mode="after")
    def _for_every_channel(self) -> Self:
        shape, features = self.input_shape, sum(column.width for column in self.columns)
        if min(shape, default=1) < 1 or {len(self.mean), len(self.std)} != {(shape or (1,))[0]}:
            raise ValueError(f"rows of shape {shape} with {len(self.mean)} means, {len(self.std)} std")
        if self.columns and shape != (features,):
            raise ValueError(f"rows of shape {shape}, but columns make {features} features")
        if self.frames and shape != self.frames.shape:
            raise ValueError(f"rows of shape {shape}, but frames make {self.frames.shape}")
        return self


class MemberCard(Part):
    """One member, and how it votes."""

    id: str
    label: str  # LR policy
    model: Named
    seed: int
    weight: float = Field(gt=0, allow_inf_nan=False)
    temperature: float = Field(gt=0, allow_inf_nan=False)
    metrics: dict[str, float | None]  # on validation
    parameters: float | None
    flops: float | None  # per row


class Check(Part):
    """What the written file was compared with before the folder appeared."""

    what: str
    rows: int
    largest_difference: float
    undecided: int = 0  # rows that differ because a member is undecided, up to rounding: two classes, or a spike


class Card(Part):
    """The contents of ``team.json``."""

    format: int = FORMAT
    name: str
    pool: str
    task: str
    data: dict[str, Any]
    data_fingerprint: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    vote: str
    choices: bool = False  # rows have choices of their own: a member's logit of minus infinity says which it has not
    chance: dict[str, float] = {}  # accuracy of guessing, of val and test; older cards do not know it
    members: tuple[MemberCard, ...] = Field(min_length=1)
    selector: str
    teams_tried: int
    validation: dict[str, float]
    validation_rows: int
    abstention: tuple[tuple[float, float, float | None], ...]  # threshold, share answered, accuracy of these
    test: dict[str, Any] | None  # evaluations/<team>.json, where it is of this very team (`evaluation.stored`)
    single: MemberCard  # the best single member, by validation accuracy
    checks: dict[str, Check] = {}
    timings: tuple[Timing, ...] = ()
    files: dict[str, FileInfo] = {}
    created: str
    version: str
    torch: str

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The card of an exported team; `UserError` where there is none."""
        path = folder / NAME
        if not path.is_file():
            why = f"no {NAME} is in it" if folder.is_dir() else "it is no folder" if folder.exists() else "not found"
            raise UserError(f"{folder} is no exported team ({why}): lrensemble export POOL TEAM -o {folder} makes one")
        card = read_model(cls, path, "export again")
        if card.format > FORMAT:
            raise UserError(f"{path} was written by a newer lrensemble (format {card.format}; known is {FORMAT})")
        return card

    def check_file(self, path: Path) -> None:
        """`UserError` unless the file is the one that was checked at the export."""
        info = self.files.get(path.name) or self.files.get("/".join(path.parts[-3:]))  # members/<id>/<file>
        if info is None or path.stat().st_size != info.bytes or file_hash(path) != info.sha256:
            raise UserError(f"{path}: cut off, damaged or replaced since the export: export again")
