"""Experiment configurations: YAML in, a validated plan out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator, model_validator
from torch import nn

from lrensemble.errors import UserError, did_you_mean
from lrensemble.examples import missing_config
from lrensemble.models import identified
from lrensemble.models.objects import name_of
from lrensemble.policies import Controlled, Policy, Space
from lrensemble.policies.control import parse_schedule, parse_schedules
from lrensemble.policies.text import count, read
from lrensemble.policies.units import Length
from lrensemble.pool.files import read_json, read_text
from lrensemble.pool.record import DEFAULT, Named, RunSpec, Strict, Training
from lrensemble.tasks import Task
from lrensemble.tasks.augment import check_augmentation
from lrensemble.tasks.load import check_known, options_of
from lrensemble.tasks.load import name_of as name_of_task
from lrensemble.tasks.text import TEXTS
from lrensemble.training.engine import Engine
from lrensemble.training.explain import QUOTE, as_name, read_yaml, short, validated

MAX_SEEDS = 100_000
MAX_RUNS = 100_000  # policies x seeds x grid, counted before the first is made
YES_NO = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
NAME = r"^\w[\w.-]*$"


class DataConfig(BaseModel):
    """Which data, and how the validation split is cut from train.

    A table, and a task that is not ours (``package.module:Class``, or registered), take whatever other keys they have
    parameters for.

    Attributes
    ----------
    root : folder or file with the data
    download : let torchvision fetch what is missing
    size : every image is resized to so many pixels a side
    layout : of arrays: where their channels are
    skip_broken : leave out images of a folder that cannot be read
    val_fraction : stratified share of train that selection sees
    val : the validation split, where it is not beside train
    groups : which rows belong together: an expression on file names, arrays, or a file
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    root: Path | None = None
    download: bool = False
    size: int | None = Field(default=None, gt=0, le=4096)
    layout: Literal["nchw", "nhwc"] | None = None
    skip_broken: bool = False
    val_fraction: float | None = Field(default=None, gt=0, lt=1)
    split_seed: int = Field(default=0, ge=0)
    val: Path | None = None
    groups: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _known(self) -> Self:
        check_known(self.name)
        takes = options_of(self.name)
        if takes is not None and (unknown := [key for key in self.model_extra or {} if key not in takes]):
            keys = [*type(self).model_fields, *takes]
            raise UserError(f"unknown key 'data.{unknown[0]}': {did_you_mean(unknown[0], keys)}")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """All but the name, as `load_task` takes them."""
        return {key: value for key, value in self if key != "name"}


class Sample(Strict):
    """Random policies of a search space: ``{sample: "FIX(k0=log(1e-3, 1))", n: 8, seed: 0}``."""

    sample: str
    n: int = Field(gt=0, le=100_000)
    seed: int = Field(default=0, ge=0)


class Config(Strict):
    """One experiment: a pool, and optionally its control.

    The members are policies x seeds x every combination of `grid`, whose keys are dotted paths into this
    configuration (``training.batch_size: [64, 128]``).

    Attributes
    ----------
    name : of the pool; default: the file's
    data : ``digits``, or ``{name: folder, root: photos, ...}``
    model, optimizer : a name, or ``{name: lenet, hidden: 120}`` with its parameters
    policies : LR policies, ``COS(k0=[0.05, 0.1], l=100%)`` for two of them, and samples of a search space
    seeds : a number of seeds, or a list of them
    control : also train as many seeds as there are runs: of the best policy (true), or of this one, fixed before
    snapshots : more members of every run, on its way: ``cycles``, or lengths such as ``50%``
    averages : more members of every run, of its weights: ``swa``, ``ema``
    targets : validation accuracies whose first step is recorded
    metrics : beside accuracy and NLL, in evaluations and reports: names, ``package.module:function``
    """

    name: str = Field(pattern=NAME, max_length=100)
    data: DataConfig
    model: Named
    optimizer: Named = Named(name="SGD")
    training: Training
    policies: tuple[str | Sample, ...] = Field(min_length=1)
    seeds: tuple[NonNegativeInt, ...] = (0,)
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    control: bool | str = False
    snapshots: Literal["cycles"] | tuple[str, ...] = ()
    averages: tuple[Named, ...] = ()
    targets: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    metrics: tuple[str, ...] = ()
    engine: Engine = Engine()

    @field_validator("policies", mode="before")
    @classmethod
    def _one_policy(cls, value: Any) -> Any:
        entries = [value] if isinstance(value, str | dict | Policy | Controlled) else value
        if not isinstance(entries, list | tuple):
            return entries  # pydantic says what is wrong
        entries = [str(entry) if isinstance(entry, Policy | Controlled) else entry for entry in entries]
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
        if isinstance(value, int) and value > MAX_SEEDS:
            raise UserError(f"seeds = {short(value)}: at most {MAX_SEEDS:,} seeds at once")
        return tuple(range(value)) if type(value) is int and value > 0 else value

    @field_validator("control", mode="before")
    @classmethod
    def _one_default(cls, value: Any) -> bool | str:
        word = YES_NO.get(str(value).lower())
        if word is not None:
            return word
        if not isinstance(value, str):
            raise UserError(f"control = {short(value)}: true, false or a policy is needed")
        try:
            return str(parse_schedule(value))
        except UserError as error:
            raise UserError(f"control: {error} (control: true takes the best policy of the pool)") from None

    @field_validator("averages", "targets", "metrics", mode="before")
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

    @property
    def default(self) -> RunSpec | None:
        """What `control` is to train seeds of, where it names a policy: all else is as in the first run."""
        if isinstance(self.control, bool):
            return None
        return self.specs()[0].model_copy(update={"policy": self.control, "seed": 0, "notes": DEFAULT})

    def specs(self) -> list[RunSpec]:
        """The members this configuration asks for, each once."""
        policies = sum(count(read(entry)) if isinstance(entry, str) else entry.n for entry in self.policies)
        counts = [policies, len(self.seeds), math.prod(map(len, self.grid.values()))]
        if math.prod(counts) > MAX_RUNS:
            what = " x ".join(
                f"{n:,} {name}" if n < 10**15 else f"more than 10^15 {name}"
                for n, name in zip(counts, ("policies", "seeds", "of the grid"), strict=True)
            )
            raise UserError(f"{what} are more than {MAX_RUNS:,} runs, which is the most of a configuration")
        schedules = [schedule for entry in self.policies for schedule in _expand(entry)]
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
            for policy, seed in itertools.product(schedules, self.seeds):
                spec = validated(RunSpec, {**varied, "policy": str(policy), "seed": seed}, "grid")
                spec = spec.model_copy(update={"model": _identified(spec.model)})
                specs[spec.model_dump_json()] = spec
            for entry in spec.training.augment:
                check_augmentation(entry)
        return list(specs.values())


def _identified(model: Named) -> Named:
    parameters = identified(**model.build)
    return model if parameters == model.parameters else Named.model_validate({"name": model.name, **parameters})


def _expand(entry: str | Sample) -> Sequence[Policy | Controlled]:
    if isinstance(entry, str):
        return parse_schedules(entry)
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


def load_config(
    source: str | Path | dict[str, Any],
    overrides: Sequence[str] = (),
    *,
    task: Task | None = None,
    model: type[nn.Module] | Callable[..., nn.Module] | nn.Module | None = None,
    policies: Callable[[str], Sequence[str]] | None = None,
) -> Config:
    """Read a configuration from a YAML file (or a dict) and apply overrides such as ``training.epochs=5``.

    Parameters
    ----------
    task : Task, optional
        In place of ``data``: an object of this program, for example an `ArrayTask`.
    model : class, function or module, optional
        In place of ``model``'s name; its parameters may stand in the configuration. A class or function that can be
        imported is known to workers too, any other trains in this process.
    policies : function, optional
        Of the optimizer's name: the policies where the configuration has none, or ``policies: []``.

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
        if not path.exists():
            raise UserError(f"{path}: cannot be read: it does not exist; {missing_config(path)}")
        # What a pool has is JSON, of any length: the reader of YAML is slow.
        data = read_json(path) if path.suffix == ".json" else read_yaml(read_text(path), where)
        if not isinstance(data, dict):
            what = "empty" if data is None else f"a {type(data).__name__}"
            raise UserError(f"{path}: a configuration is a mapping of keys to values, this is {what}")
        made = as_name(path.stem)
        data = {**({"name": made} if made else {}), **data}
    if task is not None:
        data = {**data, "data": name_of_task(task)}
    if model is not None:
        given = data.get("model", {})
        data = {**data, "model": {**(given if isinstance(given, dict) else {}), "name": name_of(model)}}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UserError(f"{override!r} is not an override: write key.sub=value, for example training.epochs=5")
        data = _with(data, key, read_yaml(value, override))
    if policies is not None and data.get("policies") in (None, []):
        given = data.get("optimizer", Config.model_fields["optimizer"].default.name)
        name = given.get("name") if isinstance(given, dict) else given
        data = {**data, "policies": list(policies(str(name)))}
    return validated(Config, _with_tokenizer(data), where)


def _with_tokenizer(data: dict[str, Any]) -> dict[str, Any]:
    """Texts that say no tokenizer have that of the model's folder."""
    given, model = data.get("data"), data.get("model")
    if isinstance(given, dict) and given.get("name") in TEXTS and isinstance(model, dict) and "weights" in model:
        return {**data, "data": {"tokenizer": model["weights"], **given}}
    return data
