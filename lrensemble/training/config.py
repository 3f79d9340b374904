"""Experiment configurations: YAML in, a validated plan out."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from lrensemble.data import SOURCES
from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies import Policy, Space, parse_policies
from lrensemble.policies.units import NUMBER, Length
from lrensemble.pool.record import Named, RunSpec, Strict, Training
from lrensemble.training.engine import Engine

MAX_SEEDS = 100_000
NAME = r"^\w[\w.-]*$"
QUOTE = "put every policy in quotes, or on a line of its own after '- '"
WORDS = {  # pydantic's errors, for people
    "string_type": "a text is needed",
    "tuple_type": "a list is needed",
    "model_type": "keys with values are needed",
    "dict_type": "keys with values are needed",
    "int_type": "a whole number is needed",
    "int_parsing": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "float_type": "a number is needed",
    "float_parsing": "a number is needed",
    "bool_parsing": "true or false is needed",
    "string_pattern_mismatch": "letters, digits, '_', '-' and '.' are possible",
}
T = TypeVar("T", bound=BaseModel)


class DataConfig(Strict):
    """Which data, and how the validation split is cut from train."""

    name: str
    root: Path | None = None
    download: bool = False
    size: int | None = Field(default=None, gt=0, le=4096)
    layout: Literal["nchw", "nhwc"] | None = None  # of arrays: where their channels are
    skip_broken: bool = False  # leave out images of a folder that cannot be read
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

    name: str = Field(pattern=NAME, max_length=100)
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
        for entry in entries:
            parts = [entry] if isinstance(entry, str) else list(map(str, entry)) if isinstance(entry, dict) else []
            cut = [part for part in parts if part.count("(") != part.count(")")]
            if cut and len(entries) + len(parts) > 2:
                raise UserError(f"policies: {cut[0]!r} is a part of a policy that YAML split at its commas: {QUOTE}")
        return [validated(Sample, entry, "policies") if isinstance(entry, dict) else entry for entry in entries]

    @field_validator("seeds", mode="before")
    @classmethod
    def _seed_count(cls, value: Any) -> Any:
        """``seeds: 3`` is ``seeds: [0, 1, 2]``."""
        return tuple(range(value)) if type(value) is int and 0 < value <= MAX_SEEDS else value

    @field_validator("averages", "targets", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    @field_validator("snapshots", mode="before")
    @classmethod
    def _lengths(cls, value: Any) -> Any:
        if value == "cycles":
            return value
        lengths = [str(length) for length in (value if isinstance(value, list | tuple) else [value])]
        for length in lengths:
            Length.parse(length)
        return lengths

    @model_validator(mode="after")
    def _plannable(self) -> Self:
        for name, values in (("seeds", self.seeds), *self.grid.items()):
            if not values:
                raise UserError(f"{name} is empty: at least one value is needed")
        self.specs()
        return self

    def specs(self) -> list[RunSpec]:
        """The members this configuration asks for, each once."""
        policies = [policy for entry in self.policies for policy in _expand(entry)]
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


def _expand(entry: str | Sample) -> list[Policy]:
    if isinstance(entry, str):
        return parse_policies(entry)
    return Space.parse(entry.sample).sample(entry.n, entry.seed)


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
    _check_plain(kind, data, where, "")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        # A key that is not known explains one that is missing.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise UserError(f"{where}: {_explain(kind, first['loc'], first)}") from None


def _inside(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation; optional parts, as `stop: Hopeless | None`, are looked through."""
    return next((a for a in (annotation, *get_args(annotation)) if isinstance(a, type(BaseModel))), None)


def _check_plain(kind: type[BaseModel] | None, data: Any, where: str, path: str) -> None:
    """What pydantic would take for something else: true for 1, a date for a name, a number in quotes for a text."""
    if isinstance(data, datetime.date):
        raise UserError(f"{where}: {path} = {data} is a date in YAML: put it in quotes")
    if isinstance(data, list | tuple):
        for item in data:
            _check_plain(kind, item, where, path)
    elif isinstance(data, dict):
        for key, value in data.items():
            inside = f"{path}.{key}" if path else str(key)
            field = kind.model_fields.get(str(key)) if kind else None
            types = (field.annotation, *get_args(field.annotation)) if field else ()
            if isinstance(value, bool) and {int, float} & set(types) and bool not in types:
                raise UserError(f"{where}: {inside} = {value} is not possible: a number is needed")
            _check_plain(_inside(field.annotation) if field else kind if kind is Named else None, value, where, inside)
    elif kind is Named and isinstance(data, str) and "." in path and (hint := _number_hint(data)):
        raise UserError(f"{where}: {path} = {data!r} is a text: {hint}")


def _number_hint(text: str) -> str:
    """What to do with a number that YAML did not take for one."""
    if re.fullmatch(NUMBER, text):
        return "remove the quotes"
    return f"write {text.replace(',', '.')}" if re.fullmatch(r"[-+]?\d+,\d+", text) else ""


def _explain(kind: type[BaseModel], location: tuple[int | str, ...], error: Any) -> str:
    path = ".".join(map(str, location))
    if error["type"] == "missing":
        return f"{path} is missing"
    if error["type"] == "extra_forbidden":
        inside: type[BaseModel] | None = kind
        for part in location[:-1]:
            inside = _inside(inside.model_fields[str(part)].annotation) if inside else None
        return f"unknown key {path!r}: {did_you_mean(location[-1], inside.model_fields if inside else ())}"
    problem = WORDS.get(error["type"]) or error["msg"][0].lower() + error["msg"][1:]
    hint = _hint(path, error["input"], error["type"])
    return f"{path} = {error['input']!r}: {problem}{f' ({hint})' if hint else ''}"


def _hint(path: str, value: Any, problem: str) -> str:
    """What to write instead, where that can be known."""
    is_list = isinstance(value, list | tuple)
    if value is None:
        return "there is nothing after its colon"
    if problem == "string_pattern_mismatch":
        return f"for example {_as_name(value) or 'my-pool'}"
    if path == "seeds":
        return "how many, or which: 3 or [0, 1, 2]"
    if path.startswith("policies") and isinstance(value, int | float):
        return f"a policy, for example FIX(k0={value})"
    if problem == "string_type":
        return "" if is_list or isinstance(value, dict) else "put it in quotes"
    if isinstance(value, str) and (hint := _number_hint(value)):
        return hint
    if is_list and value and path.split(".")[0] in ("model", "optimizer", "training"):
        return f"to try several: grid: {{{path}: [{', '.join(map(str, value))}]}}"
    return f"write [{value}]" if problem == "tuple_type" and not isinstance(value, dict) else ""


def _as_name(text: str) -> str:
    """A name for a pool made of a text: ``my config (1)`` becomes ``my-config-1``."""
    return re.sub(r"[^\w.]+", "-", text).strip("-.")[:100]


class _Constructor(SafeConstructor):
    """YAML's plain types, without numbers that other dialects read otherwise."""

    def construct_yaml_int(self, node: Any) -> int:
        if re.match(r"[-+]?0[\d_]", node.value):
            raise UserError(
                f"{node.value} is octal in some dialects of YAML, decimal in others: write it without its 0"
            )
        number: int = super().construct_yaml_int(node)
        return number


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_yaml_int)


def _yaml(text: str, where: str) -> Any:
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _Constructor
    try:
        return reader.load(text)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: not YAML: {_yaml_problem(text, error)}") from None


def _yaml_problem(text: str, error: Exception) -> str:
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    number = error.problem_mark.line
    line = next(iter(text.splitlines()[number:]), "")
    fix = ""
    if "\t" in line:
        fix = "; indent with spaces, not tabs"
    elif "(" in line and "[" in line:
        fix = f"; {QUOTE}"
    elif glued := re.search(r"^ *-[^\s-].*", text, re.MULTILINE):
        fix = f"; a space is needed after - in {glued[0].strip()!r}"
    return f"line {number + 1}, column {error.problem_mark.column + 1}: {error.problem}{fix}"


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
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
        data = _yaml(text, where)
        if not isinstance(data, dict):
            what = "empty" if data is None else f"a {type(data).__name__}"
            raise UserError(f"{path}: a configuration is a mapping of keys to values, this is {what}")
        made = _as_name(path.stem)
        data = {**({"name": made} if made else {}), **data}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UserError(f"{override!r} is not an override: write key.sub=value, for example training.epochs=5")
        data = _with(data, key, _yaml(value, override))
    return validated(Config, data, where)
