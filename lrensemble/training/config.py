"""Experiment configurations: YAML in, a validated plan out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lrensemble.data import SOURCES
from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies import Space
from lrensemble.policies.text import MOST_POLICIES
from lrensemble.policies.units import Length
from lrensemble.pool.files import read_json, read_text
from lrensemble.pool.record import Named, RunSpec, Strict, Training
from lrensemble.training.engine import Engine

MAX_SEEDS = 100_000
MAX_RUNS = 100_000  # policies x seeds x grid, counted before the first is made
MOST_YAML = 512 << 10  # bytes: its reader takes seconds for them
MOST_VALUES = 100_000  # in it, with every alias written out
T = TypeVar("T", bound=BaseModel)


class DataConfig(Strict):
    """Which data, and how the validation split is cut from train."""

    name: str
    root: Path | None = None
    download: bool = False
    size: int | None = Field(default=None, gt=0, le=4096)
    val_fraction: float | None = Field(default=None, gt=0, lt=1)
    split_seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SOURCES:
            raise UserError(f"unknown data set {name!r}: {did_you_mean(name, SOURCES)}")
        return name


class Sample(Strict):
    """Random policies of a search space: ``{sample: "FIX(k0=log(1e-3, 1))", n: 8, seed: 0}``."""

    sample: str
    n: int = Field(gt=0, le=100_000)
    seed: int = Field(default=0, ge=0)


class Config(Strict):
    """One experiment: a pool, and optionally its control.

    The members are policies x seeds x every combination of `grid`, whose keys are dotted paths into this
    configuration (``training.batch_size: [64, 128]``).
    """

    name: str = Field(pattern=r"^\w[\w.-]*$", max_length=100)
    data: DataConfig
    model: Named
    optimizer: Named = Named(name="SGD")
    training: Training
    policies: tuple[str | Sample, ...] = Field(min_length=1)
    seeds: tuple[NonNegativeInt, ...] = (0,)
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    control: bool = False  # also train a pool of the same size that varies nothing but the seed
    snapshots: Literal["cycles"] | tuple[str, ...] = ()  # more members of every run, on its way ...
    averages: tuple[Named, ...] = ()  # ... and of its weights: swa, ema
    targets: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()  # validation accuracies whose first step is recorded
    engine: Engine = Engine()

    @field_validator("policies", mode="before")
    @classmethod
    def _one_policy(cls, value: Any) -> Any:
        entries = [value] if isinstance(value, str | dict) else value
        if not isinstance(entries, list | tuple):
            return entries  # pydantic says what is wrong
        return [validated(Sample, entry, "policies") if isinstance(entry, dict) else entry for entry in entries]

    @field_validator("seeds", mode="before")
    @classmethod
    def _seed_count(cls, value: Any) -> Any:
        """``seeds: 3`` is ``seeds: [0, 1, 2]``."""
        if isinstance(value, int) and value > MAX_SEEDS:
            raise UserError(f"seeds = {short(value)}: at most {MAX_SEEDS:,} seeds at once")
        return tuple(range(value)) if isinstance(value, int) and value > 0 else value

    @field_validator("snapshots", "averages", "targets", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) or value == "cycles" else [value]

    @field_validator("snapshots", mode="before")
    @classmethod
    def _lengths(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            for text in value:
                Length.parse(str(text))
            return [str(text) for text in value]
        return value

    @model_validator(mode="after")
    def _plannable(self) -> Self:
        for name, values in (("seeds", self.seeds), *self.grid.items()):
            if not values:
                raise UserError(f"{name} is empty: at least one value is needed")
        self.specs()
        return self

    def specs(self) -> list[RunSpec]:
        """The members this configuration asks for, each once."""
        spaces = [_space(entry) for entry in self.policies]
        counts = [sum(n for _, n, _ in spaces), len(self.seeds), math.prod(map(len, self.grid.values()))]
        if math.prod(counts) > MAX_RUNS:
            what = " x ".join(
                f"{short(n)} {name}" for n, name in zip(counts, ("policies", "seeds", "of the grid"), strict=True)
            )
            raise UserError(f"{what} are more than {MAX_RUNS:,} runs, which is the most of a configuration")
        policies = [
            policy for space, n, seed in spaces for policy in (space.grid() if seed is None else space.sample(n, seed))
        ]
        base = {
            "model": self.model.model_dump(),
            "optimizer": self.optimizer.model_dump(),
            "training": self.training.model_dump(),
        }
        specs: dict[str, RunSpec] = {}
        for values in itertools.product(*self.grid.values()):
            varied = base
            for path, value in zip(self.grid, values, strict=True):
                if path.split(".")[0] not in base:
                    raise UserError(f"grid: {path!r} cannot vary: its first part must be one of {', '.join(base)}")
                varied = _with(varied, path, value)
            for policy, seed in itertools.product(policies, self.seeds):
                spec = validated(RunSpec, {**varied, "policy": str(policy), "seed": seed}, "grid")
                specs[spec.model_dump_json()] = spec
        return list(specs.values())


def _space(entry: str | Sample) -> tuple[Space, int, int | None]:
    """What an entry under `policies` means: a space, how many policies of it, and the seed if they are sampled."""
    if isinstance(entry, str):
        space = Space.parse(entry, MOST_POLICIES)
        return space, space.size, None
    return Space.parse(entry.sample), entry.n, entry.seed


def _with(tree: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `tree` with `value` at the dotted `path`."""
    head, _, rest = path.partition(".")
    if not rest:
        return {**tree, head: value}
    inside = tree.get(head) or {}
    if isinstance(inside, str):  # model: lenet, overridden by model.hidden=64
        inside = {"name": inside}
    if not isinstance(inside, dict):
        raise UserError(f"{path}: {head} is {inside!r}, which has no {rest!r} in it")
    return {**tree, head: _with(inside, rest, value)}


def validated(kind: type[T], data: Any, where: str) -> T:
    """Build `kind` from plain data; what is wrong becomes one `UserError` that starts with `where`."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        # A key that is not known explains one that is missing.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise UserError(f"{where}: {_explain(kind, first['loc'], first)}") from None


def _explain(kind: type[BaseModel], location: tuple[int | str, ...], error: Any) -> str:
    path = ".".join(map(str, location))
    if error["type"] == "missing":
        return f"{path} is missing"
    if error["type"] == "extra_forbidden":
        inside = kind
        for part in location[:-1]:
            annotation = inside.model_fields[str(part)].annotation
            # Optional parts, as `stop: Hopeless | None`, are looked through.
            inside = next(a for a in (annotation, *get_args(annotation)) if isinstance(a, type(BaseModel)))
        return f"unknown key {path!r}: {did_you_mean(location[-1], inside.model_fields)}"
    return f"{path} = {short(error['input'])}: {error['msg'][0].lower()}{error['msg'][1:]}"


def short(value: object) -> str:
    """As an error shows it; a number of thousands of digits has no text in Python."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"({type(value).__name__}, too long to be shown)"
    return text if len(text) <= 200 else f"{text[:200]} ..."


def _size(value: Any, sizes: dict[int, int]) -> int:
    """Values in `value` with every alias written out; ValueError for one that is inside itself."""
    if not isinstance(value, dict | list | set):
        return 1
    if id(value) not in sizes:
        sizes[id(value)] = 0  # not known yet: whoever meets it here is inside of it
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        sizes[id(value)] = 1 + sum(_size(one, sizes) for one in inside)
    elif not sizes[id(value)]:
        raise ValueError("an alias inside of what it stands for")
    return sizes[id(value)]


def _yaml(text: str, where: str) -> Any:
    try:
        if len(text) > MOST_YAML:
            raise ValueError(f"{len(text):,} characters, at most {MOST_YAML:,} are read")
        data = YAML(typ="safe", pure=True).load(text)
        if _size(data, {}) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values with its aliases written out")
        return data
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None
    except (YAMLError, ValueError, TypeError, AttributeError, ArithmeticError, LookupError) as error:  # of odd scalars
        raise UserError(f"{where}: not YAML: {' '.join(str(error).split())[:500]}") from None


def load_config(source: str | Path | dict[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Read a configuration from a YAML file (or a dict) and apply overrides such as ``training.epochs=5``.

    Raises
    ------
    UserError
        Unreadable file, unknown key, impossible value: one line that names it.
    """
    if isinstance(source, dict):
        where, data = "config", source
    else:
        path = Path(source)
        where = str(path)
        # What a pool has is JSON, of any length: the reader of YAML is slow.
        data = read_json(path) if path.suffix == ".json" else _yaml(read_text(path), where)
        if not isinstance(data, dict):
            raise UserError(f"{path}: a configuration is a mapping of keys to values, this is {type(data).__name__}")
        data = {"name": path.stem, **data}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UserError(f"{override!r} is not an override: write key.sub=value, for example training.epochs=5")
        data = _with(data, key, _yaml(value, override))
    return validated(Config, data, where)
