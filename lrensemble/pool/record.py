"""What a member is (its spec) and what came of it (its record)."""

from __future__ import annotations

import hashlib
import json
import math
import textwrap
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lrensemble.errors import UserError
from lrensemble.metrics import TINY
from lrensemble.opening import file_hash
from lrensemble.policies import Controlled, Policy, parse_schedule
from lrensemble.pool.files import now
from lrensemble.tabular import Column

Origin = Literal["training", "loop", "import", "adopt"]  # who trained it, or where it came from
Status = Literal["planned", "complete", "diverged", "stopped", "failed"]
DEFAULT = {"control": "default"}  # notes of the runs of a default policy that was fixed before training
FINISHED = ("complete", "diverged", "stopped")  # not trained again; all cost (some of) their budget


class Strict(BaseModel):
    """Immutable; an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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

    @property
    def build(self) -> dict[str, Any]:
        """As the arguments ``name`` and ``parameters``."""
        return {"name": self.name, "parameters": self.parameters}

    @property
    def identity(self) -> Named:
        """Weights that it starts from are known by their hash, wherever the file is."""
        known = {key: value for key, value in self.parameters.items() if key != "weights"}
        return Named.model_validate({"name": self.name, **known}) if "weights_hash" in known else self

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={value}" for key, value in self.parameters.items() if key != "weights_hash")
        return f"{self.name}({inside})" if inside else self.name


class Hopeless(Strict):
    """A run is stopped when its validation accuracy is below `accuracy` after the share `after` of its epochs."""

    accuracy: float = Field(gt=0, lt=1)
    after: float = Field(default=0.25, gt=0, lt=1)


class Training(Strict):
    """How long and on what a member trains.

    Attributes
    ----------
    augment : changes of the images, in that order: ``crop``, ``flip``, and transforms of torchvision.transforms.v2 by
        name, with their options
    cutout : side in pixels of the square that is blanked in every image (DeVries & Taylor 2017); 0 is off
    mixup : alpha of the Beta distribution that mixes two images and their labels (Zhang et al. 2018); 0 is off
    loss : ``cross_entropy``, ``focal`` (with gamma) or ``bce``, and ``weights`` of the classes: ``balanced``, or a list
    freeze : patterns (regular expressions) of the names of parameters that are not trained
    clip : gradients whose norm is larger are scaled down to it
    decoupled_weight_decay : every step shrinks all weights by this share, whatever the LR (Loshchilov & Hutter 2019
        decouple it from the gradient; here it is independent of the LR too, so that a sweep over LR policies changes
        one thing). The optimizer's own ``weight_decay`` is another thing.
    stop : when a hopeless run is given up; never by default
    until : validation accuracy at which a run ends, because all that is asked is when it gets there
    shared_init : all runs of one model and seed start from the same weights, so that their weights can be averaged
        (`export.soup`); the order of the rows and the augmentation stay the run's own
    """

    epochs: int = Field(gt=0, le=1_000_000)
    batch_size: int = Field(default=128, gt=0, le=1_000_000_000)
    augment: tuple[str | Named, ...] = ()
    cutout: int = Field(default=0, ge=0)
    mixup: float = Field(default=0.0, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    loss: Named = Named(name="cross_entropy")
    clip: float | None = Field(default=None, gt=0)
    freeze: tuple[str, ...] = ()
    decoupled_weight_decay: float = Field(default=0.0, ge=0, lt=1)
    stop: Hopeless | None = None
    until: float | None = Field(default=None, gt=0, le=1)
    shared_init: bool = False

    @field_validator("augment")
    @classmethod
    def _names(cls, value: tuple[str | Named, ...]) -> tuple[str | Named, ...]:
        """One form of what is the same, so that it has one id: a name alone is a text."""
        return tuple(entry.name if isinstance(entry, Named) and not entry.parameters else entry for entry in value)


class MemberSpec(Strict):
    """Everything that decides what a member becomes, except the data.

    Attributes
    ----------
    policy, training, optimizer : None where they are not known (imported predictions, a user's own loop)
    derived : what this member is of a run, if it is not the run's final model: ``{name: snapshot, epoch: 6}``,
        ``{name: swa, start: 9}``, ``{name: ema, decay: 0.999}``, ``{name: soup, size: 3}``
    notes : whatever else a user's own loop or import says of the member; under ``soup`` the ids of a soup's
        ingredients and of their runs
    """

    model: Named
    optimizer: Named | None = None
    policy: str | None = None
    training: Training | None = None
    seed: int = Field(ge=0, lt=2**63)
    derived: Named | None = None
    source: Origin = "training"
    notes: dict[str, Any] = Field(default_factory=dict)

    @field_validator("policy")
    @classmethod
    def _canonical(cls, text: str | None) -> str | None:
        return None if text is None else str(parse_schedule(text))

    @property
    def label(self) -> str:
        """The policy for tables, with what the member is of its run: ``COS(k0=0.1, l=100%) snapshot(epoch=6)``."""
        name = self.notes.get("run") if self.source == "adopt" else None
        return " ".join(str(part) for part in (self.policy or name or self.model, self.derived) if part)

    @property
    def is_ours(self) -> bool:
        """Whether our code can build its model, and its predictions are that one's: not of imports and own loops."""
        return self.source in ("training", "adopt")

    @property
    def run(self) -> MemberSpec:
        """The spec of the run that this member comes from (itself, for a final model)."""
        notes = {key: value for key, value in self.notes.items() if not (self.derived and key == "soup")}
        return self.model_copy(update={"derived": None, "notes": notes})

    def start(self, run_id: str) -> str:
        """What the initial weights are drawn from, for the run `run_id`: equal for runs that share them."""
        if self.training is None or not self.training.shared_init:
            return run_id
        return f"{self.model.identity.model_dump_json()} {self.seed}"

    def identity(self, data_fingerprint: str) -> str:
        """The spec and the data as text. Options at their defaults do not count.

        So that a later version that adds an option recognises the members of an older pool.
        """
        spec = self.model_dump(mode="json", exclude_defaults=True)
        spec["model"] = self.model.identity.model_dump(mode="json")
        return json.dumps([spec, data_fingerprint], sort_keys=True)

    def id(self, data_fingerprint: str) -> str:
        """Short hash of the spec and the data."""
        return hashlib.sha256(self.identity(data_fingerprint).encode()).hexdigest()[:10]


class RunSpec(MemberSpec):
    """A member that our trainer can train: nothing about it is unknown."""

    optimizer: Named
    policy: str
    training: Training

    @classmethod
    def of(cls, spec: MemberSpec) -> Self:
        """The run that `spec` comes from."""
        return cls.model_validate(spec.run.model_dump())


def loop_spec(source: Origin, **values: Any) -> MemberSpec:
    """The spec of a member that our trainer does not train; a `UserError` for what it cannot be."""
    if isinstance(values.get("policy"), Policy | Controlled):
        values["policy"] = str(values["policy"])
    try:
        spec = MemberSpec(source=source, **values)
        plain = json.loads(json.dumps(spec.notes, allow_nan=False))
    except ValidationError as error:
        first = error.errors()[0]
        shown = textwrap.shorten(repr(first["input"]), 60, placeholder=" ...")  # a module's repr has many lines
        raise UserError(f"{'.'.join(map(str, first['loc']))} = {shown}: {first['msg'].lower()}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"notes of a member are plain values (finite numbers, texts, lists): {error}") from None
    return spec.model_copy(update={"notes": plain})  # as the record will have them: (1, 2) comes back as [1, 2]


class FileInfo(Strict):
    """Size and hash of a file at the moment when the member was finished."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        return cls(bytes=path.stat().st_size, sha256=file_hash(path))


class Record(BaseModel):
    """``record.json``: written when the member is planned, replaced once when it is finished, then immutable.

    Only `gc` writes it once more, when it deletes the weights. It carries a hash of itself (older ones do not).

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
    trace: str | None = None  # policy whose LRs a controlled run had
    control: dict[str, Any] | None = None  # what its controller measured
    parent: str | None = None  # id of the run's final model, for a member that came of the same run
    metrics: dict[str, dict[str, float | None]] = {}  # split -> metric -> value
    targets: dict[str, dict[str, float] | None] = {}  # validation accuracy -> first step and seconds, None: never
    costs: dict[str, int | float] = {}  # steps, seconds, samples_per_second, parameters, flops (per sample, forward)
    environment: dict[str, Any] = {}
    outputs: Literal["probabilities", "labels"] | None = None  # what it predicts; None: written before this was kept
    base: str | None = None  # hash of the frozen parameters, where the builder gives them and the weights file has none
    files: dict[str, FileInfo] = {}  # path inside the member's folder
    removed: dict[str, str] = {}  # files that lrensemble gc has deleted since -> when

    @classmethod
    def planned(cls, spec: MemberSpec, data_fingerprint: str) -> Self:
        """The record of a member that is to be trained."""
        return cls(
            id=spec.id(data_fingerprint),
            status="planned",
            spec=spec,
            data_fingerprint=data_fingerprint,
            created=now(),
            parent=spec.run.id(data_fingerprint) if spec.derived else None,
        )

    @property
    def is_labels(self) -> bool:
        """Whether it predicts classes alone, as an import of labels does: that has no NLL, Brier score or ECE."""
        if self.outputs is not None or self.spec.is_ours or self.status != "complete":
            return self.outputs == "labels"
        val = self.metrics.get("val", {})
        wrong, brier, nll = 1 - (val.get("accuracy") or 0.0), val.get("brier"), val.get("nll")
        if brier is None or nll is None:
            return False
        # Of rows that are 0 and 1: each wrong one costs -log(TINY) nats, and 2 of the Brier score.
        return max(abs(brier - 2 * wrong), abs(nll + wrong * math.log(TINY))) < 1e-6

    @property
    def val(self) -> dict[str, float | None]:
        """Metrics on validation; None for what labels do not have. Empty unless complete."""
        val = self.metrics.get("val", {})
        return {key: value if key == "accuracy" else None for key, value in val.items()} if self.is_labels else val

    @property
    def followed(self) -> MemberSpec:
        """The spec with the policy whose LRs it had: what a controller chose is one, once it is over."""
        return self.spec if self.trace is None else self.spec.model_copy(update={"policy": self.trace})

    @property
    def runs(self) -> list[str]:
        """Ids of the runs that it took: its own, its parent's, or those of a soup's ingredients."""
        if self.spec.derived and self.spec.derived.name == "soup":
            return list(self.spec.notes["soup"]["runs"])
        return [self.parent or self.id]


class Header(BaseModel):
    """``pool.json``: what all members of a pool have in common; written once."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    format: int = 1
    name: str
    data: dict[str, Any]
    data_fingerprint: str
    class_names: tuple[str, ...] = Field(min_length=1)
    input_shape: tuple[Annotated[int, Field(gt=0, lt=2**31)], ...]
    rows: dict[str, Annotated[int, Field(ge=0, lt=2**53)]]  # split -> rows
    normalisation: dict[str, list[float]]  # mean and std of every channel over train; {}: the task alone knows
    columns: tuple[Column, ...] = ()  # how a CSV file becomes rows
    labels_sha256: dict[str, str]  # val, test: hash of the raw labels; also val.choices, val.documents, ...
    created: str
    version: str

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for name, wanted, found in (
            ("rows", {"train", "val", "test"}, self.rows),
            ("labels_sha256", {"val", "test"}, {k: v for k, v in self.labels_sha256.items() if "." not in k}),
            ("normalisation", {"mean", "std"} if self.normalisation else set(), self.normalisation),
        ):
            if wanted != found.keys():
                raise ValueError(f"{name} of {', '.join(found) or 'nothing'}: {', '.join(sorted(wanted))} are needed")
        if not isinstance(self.data.get("name"), str) or not isinstance(self.data.get("root"), str | Path | None):
            raise ValueError("data: a name is needed, and root is a text if it is there")
        if self.normalisation and {len(values) for values in self.normalisation.values()} != {*self.input_shape[:1]}:
            raise ValueError(f"normalisation of other channels than inputs of shape {self.input_shape} have")
        return self
