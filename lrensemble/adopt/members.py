"""Checkpoints that exist, run on a pool's validation and test rows, become its members."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from lrensemble.adopt.accuracy import check_accuracy
from lrensemble.adopt.beside import RunFacts, read_beside
from lrensemble.adopt.files import Checkpoint, find_checkpoints
from lrensemble.adopt.network import Loaded, load_checkpoint, predictions
from lrensemble.adopt.policy import policy_of
from lrensemble.adopt.studies import add_trial, read_trials, trial_of
from lrensemble.choices import guessing
from lrensemble.errors import MachineError, UserError, did_you_mean
from lrensemble.evaluation.network import load_data
from lrensemble.models import hash_of_tensors, identified
from lrensemble.models.objects import name_of
from lrensemble.opening import read_text
from lrensemble.pool import Member, MemberSpec, Named, Pool, Record
from lrensemble.pool.files import clear_disk_errors, now, read_array, write_array, write_bytes
from lrensemble.pool.record import FINISHED, loop_spec
from lrensemble.pool.writing import environment, write_complete
from lrensemble.tasks import Task, load_task
from lrensemble.tasks.load import is_known
from lrensemble.tasks.load import name_of as name_of_task
from lrensemble.training.config import Config, DataConfig
from lrensemble.training.device import pick_devices
from lrensemble.training.engine import Engine
from lrensemble.training.explain import read_yaml, validated
from lrensemble.training.runner import pool_of_task

SPLITS = ("val", "test")
WEIGHTS = "weights.safetensors"
_Key = tuple[str | None, str | None]  # hashes of weights, and of the base that they are of


@dataclass(frozen=True)
class Adopted:
    """What became of one checkpoint.

    Attributes
    ----------
    path : as it was named or found
    new : False for weights that the pool has already
    """

    path: Path
    record: Record
    new: bool


@dataclass(frozen=True)
class _Checked:
    """A checkpoint that fits, with what is known of its run; its weights and predictions are in a `folder`."""

    checkpoint: Checkpoint
    spec: MemberSpec
    run: RunFacts
    parameters: int
    base: str | None
    folder: Path


def adopt(
    path: str | Path,
    files: Sequence[str | Path],
    *,
    config: str | Path | dict[str, Any] | None = None,
    task: Task | None = None,
    model: Any = None,
    policy: str | None = None,
    study: str | None = None,
    study_name: str | None = None,
    part: str | None = None,
    devices: str = "auto",
    skip_broken: bool = False,
    trust: bool = False,
    tell: Callable[[str], object] = lambda text: None,
    step: Callable[[str], object] = lambda text: None,
) -> tuple[Pool, list[Adopted]]:
    """Run checkpoints on the validation and test rows of a pool and make them members; make the pool if there is none.

    All of them are checked and run before any is added. Weights that the pool has already are left as they are, so
    the same call again changes nothing, and one that was killed goes on.

    Parameters
    ----------
    files : paths
        Checkpoints, or folders with some (`find_checkpoints`); what lies beside them is read (`read_beside`).
    config : path or dict, optional
        With ``data``, and ``model`` if `model` does not say it; a whole configuration will do.
    task : Task, optional
        In place of ``data``. With neither the pool's own data are loaded.
    model : str, class or function, optional
        A name as in a configuration: ``package.module:callable``, ``timm:NAME``, ... Parameters of a callable of the
        user's own that the configuration leaves open are hyperparameters of each run by name; ``checkpoint`` is the
        path.
    policy : str, optional
        Of all runs, with hyperparameters of each in it: ``COS(k0={lr}, l=100%)``. Default: what lies beside says.
    study, study_name : str, optional
        An Optuna storage, and a study in it: a checkpoint's trial is found by its name (`trial_of`).
    part : str, optional
        Which weights of a file that has several: ``state_dict_ema``.
    skip_broken : bool
        Leave out checkpoints that do not fit, and tell why, rather than stop.
    tell, step : callable
        Are given lines about what was left out, and what is done now.
    trust : bool
        The pool's own data may be a task ``package.module:Class``.

    Raises
    ------
    UserError
        A file that cannot be read or holds more than tensors and plain values, weights that do not fit the model
        (tensor by tensor), a validation accuracy that is chance, an empty study, a pool of other rows.
    """
    path, device = Path(path), pick_devices(devices)[0]
    data, named = _asked(config)
    if model is not None:  # its parameters stand in the configuration
        name = model if isinstance(model, str) else name_of(model)
        named = Named.model_validate({**(named.parameters if named else {}), "name": name})
    if named is None:
        raise UserError("which model? --model package.module:callable, or model in the configuration")
    named = Named.model_validate({"name": named.name, **identified(**named.build)})
    found = find_checkpoints([Path(file) for file in files])
    if study_name is not None and study is None:
        raise UserError("--study-name is of a storage: give --study too")
    trials = read_trials(study, study_name) if study else []
    pool = (
        Pool.open(path) if (path / "pool.json").exists() or (path.exists() and data is None and task is None) else None
    )
    if task is not None:
        data = DataConfig(name=name_of_task(task))
    elif data is not None:
        task = load_task(data.name, **data.options)
    elif pool is not None:
        task = load_data(pool, trust=trust)
    else:
        raise UserError(f"{path} does not exist: to make a pool a configuration with its data is needed, --config FILE")
    _check_pool(pool, task)
    rows = Engine().rows(task, device)
    chance = guessing(task.num_classes, task.choices("val"))

    def scores(network: torch.nn.Module, split: str) -> torch.Tensor:
        return rows.scores(network.to(device), getattr(rows, split))

    with _scratch(path) as scratch:
        good: list[_Checked] = []
        broken: list[str] = []
        known: dict[_Key, Path] = {}
        for number, checkpoint in enumerate(found):
            step(f"checkpoint {number + 1} of {len(found)}: {checkpoint.path}")
            try:
                content = checkpoint.read()
                run = read_beside(checkpoint, content, tell)
                if trials:
                    add_trial(run, trial_of(checkpoint, trials))
                loaded = load_checkpoint(checkpoint, content, named, task.facts, run, part)
                key = hash_of_tensors(loaded.weights), loaded.base
                if key in known:
                    tell(f"left out: {checkpoint.path} has the same weights as {known[key]}")
                    continue
                known[key] = checkpoint.path
                if loaded.others:
                    tell(f"{checkpoint.path}: not of the model, left aside: {', '.join(loaded.others[:5])}")
                spec = _spec(loaded, run, policy_of(run, policy), key)
                probabilities = predictions(loaded.network, scores, checkpoint)
                check_accuracy(checkpoint.path, probabilities["val"], task, chance, run, tell)
            except MachineError:
                raise
            except UserError as error:
                broken.append(str(error))
                continue
            folder = Path(scratch) / str(number)
            write_bytes(folder / WEIGHTS, save(loaded.weights))
            for split, array in probabilities.items():
                write_array(folder / f"{split}.npy", array)
            count = sum(parameter.numel() for parameter in loaded.network.parameters())
            good.append(_Checked(checkpoint, spec, run, count, loaded.base, folder))
        _settle(broken, good, skip_broken, tell)
        _tell_shared(good, tell)
        if pool is None:
            assert data is not None
            pool = pool_of_task(path, path.name, data, task)
        there = {
            (record.spec.notes.get("weights"), record.base): record
            for record in (member.record for member in pool.readable)
            if record.spec.source == "adopt" and record.status in FINISHED
        }
        return pool, [_add(pool, one, there) for one in good]


def _scratch(pool: Path) -> tempfile.TemporaryDirectory[str]:
    """On the disk of the pool, which has to have room for its members, as the system's folder may not."""
    near = next(folder for folder in pool.absolute().parents if folder.is_dir())
    with clear_disk_errors(near):
        return tempfile.TemporaryDirectory(prefix=".adopt-", suffix=".tmp", dir=near)


def _asked(config: str | Path | dict[str, Any] | None) -> tuple[DataConfig | None, Named | None]:
    """Data and model of a configuration; its other keys have to be known, and are not needed."""
    if config is None:
        return None, None
    where = "config" if isinstance(config, dict) else str(config)
    given = config if isinstance(config, dict) else read_yaml(read_text(Path(config), "write a shorter one"), where)
    if not isinstance(given, dict) or "data" not in given:
        raise UserError(f"{where}: data is missing: the rows that checkpoints are run on")
    if unknown := [str(key) for key in given if key not in Config.model_fields]:
        raise UserError(f"{where}: unknown key {unknown[0]!r}: {did_you_mean(unknown[0], Config.model_fields)}")
    model = None if given.get("model") is None else validated(Named, given["model"], f"{where}: model")
    return validated(DataConfig, given["data"], f"{where}: data"), model


def _check_pool(pool: Pool | None, task: Task) -> None:
    """Raise `UserError` where a pool is of other rows than the task.

    A pool that was made of labels alone does not know its rows: its labels are compared, in their order.
    """
    if pool is None or pool.task.data_fingerprint == task.fingerprint:
        return
    what = f"{pool.path} is a pool of other data, or of another validation split, than the configuration's"
    if is_known(pool.task.data["name"]) or pool.task.class_names != tuple(task.class_names):
        raise UserError(
            f"{what} (fingerprint {pool.task.data_fingerprint[:8]}, these are {task.fingerprint[:8]}; classes "
            f"{', '.join(pool.task.class_names[:5])} and {', '.join(task.class_names[:5])})"
        )
    for split in SPLITS:
        if not np.array_equal(task.labels(split), pool.labels(split)):
            raise UserError(f"{what}: the labels of {split} differ")


def _spec(loaded: Loaded, run: RunFacts, policy: str | None, key: _Key) -> MemberSpec:
    notes = {**run.facts, "run": run.name, "weights": key[0], **({"base": key[1]} if key[1] else {})}
    return loop_spec("adopt", model=loaded.model, policy=policy, seed=run.seed, optimizer=run.optimizer, notes=notes)


def _settle(broken: list[str], good: Sequence[_Checked], skip_broken: bool, tell: Callable[[str], object]) -> None:
    """Raise `UserError` for checkpoints that cannot be members, unless some can and the others are to be left out."""
    if broken and not (skip_broken and good):
        rest = len(broken) - 1
        more = f" ({rest} more {'has' if rest == 1 else 'have'} something wrong)" if rest else ""
        fix = "; --skip-broken adopts the others" if good else ""
        raise UserError(f"{broken[0]}{more}{fix}")
    for why in broken:
        tell(f"left out: {why}")


def _tell_shared(good: Sequence[_Checked], tell: Callable[[str], object]) -> None:
    """Say which files were read for several checkpoints: they may be of one run, and may be of several."""
    of_file: dict[Path, list[str]] = defaultdict(list)
    for one in good:
        for file in one.run.files:
            of_file[file].append(str(one.checkpoint.path))
    files: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for file, paths in of_file.items():
        files[tuple(paths)].append(str(file))
    for several, names in files.items():
        if len(several) > 1:
            more = ", ..." if len(several) > 2 else ""
            tell(
                f"{', '.join(names)}: read for each of {len(several)} checkpoints ({', '.join(several[:2])}{more}), as "
                "of one run; if they are of several, give each a folder of its own, or files of its name"
            )


def _add(pool: Pool, one: _Checked, there: Mapping[_Key, Record]) -> Adopted:
    """Write one member, unless the pool has its weights already: `there`."""
    key = one.spec.notes["weights"], one.base
    if key in there:
        return Adopted(one.checkpoint.path, there[key], False)
    [planned] = pool.plan([one.spec])
    with planned.hold():
        member = Member(planned.path)
        if member.record.status in FINISHED:
            return Adopted(one.checkpoint.path, member.record, False)
        seconds = [line["seconds"] for line in one.run.history if "seconds" in line]
        record = write_complete(
            member,
            labels=pool.labels("val"),
            history=one.run.history,
            probabilities={split: np.asarray(read_array(one.folder / f"{split}.npy")) for split in SPLITS},
            weights=load_file(one.folder / WEIGHTS),
            base=one.base,
            costs={
                "parameters": one.parameters,
                **({"steps": one.run.steps} if one.run.steps else {}),
                **({"seconds": max(seconds)} if seconds else {}),
            },
            environment=environment(adopted_from=str(one.checkpoint.path.absolute()), adopted=now()),
        )
    return Adopted(one.checkpoint.path, record, True)
