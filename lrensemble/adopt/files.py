"""Which files are checkpoints: those that are named, and those in folders that are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrensemble.errors import UserError
from lrensemble.models.checkpoints import read_checkpoint
from lrensemble.opening import damaged
from lrensemble.pool.files import read_json

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".tar")
# A folder with one of these is one checkpoint, as Hugging Face's and timm's libraries write it; the adapter first.
SAVED = ("adapter_model", "model", "pytorch_model")
NO_WEIGHTS = re.compile(r"(optimizer|scheduler|scaler|rng_state.*|training_args|train_args)\.(pt|pth|bin)")
MOST = 10_000


@dataclass(frozen=True)
class Checkpoint:
    """A file with weights, or a folder whose files hold them together.

    Attributes
    ----------
    path : what people call it: the file, or the folder
    files : with the tensors
    """

    path: Path
    files: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """Where what is known of its run may lie."""
        return self.files[0].parent

    def read(self) -> Any:
        """What its files hold, nothing executed (`read_checkpoint`)."""
        contents = [read_checkpoint(file) for file in self.files]
        if len(contents) == 1:
            return contents[0]
        for file, content in zip(self.files, contents, strict=True):
            if not isinstance(content, Mapping):
                raise damaged(file, "a part of a checkpoint is tensors by name")
        return {key: value for part in contents for key, value in part.items()}


def find_checkpoints(paths: Sequence[Path]) -> list[Checkpoint]:
    """Of files and folders, in order, each once; `UserError` for a path without any."""
    found: dict[Path, Checkpoint] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist: a checkpoint, or a folder with some, is needed")
        there = list(_in_folder(path)) if path.is_dir() else [Checkpoint(path, (path,))]
        if not there:
            raise UserError(f"{path}: there is no checkpoint in this folder ({', '.join(SUFFIXES)})")
        found |= {checkpoint.path.absolute(): checkpoint for checkpoint in there}
        if len(found) > MOST:
            raise UserError(f"{path}: more than {MOST:,} checkpoints: name fewer")
    if not found:
        raise UserError("no checkpoints are named: give files, or folders with some")
    return list(found.values())


def _in_folder(folder: Path) -> Iterator[Checkpoint]:
    for where, folders, names in os.walk(folder):
        folders.sort(key=_natural)
        here = Path(where)
        if files := _saved(here, names):
            yield Checkpoint(here, files)
            continue
        for name in sorted(names, key=_natural):
            if name.endswith(SUFFIXES) and not NO_WEIGHTS.fullmatch(name):
                yield Checkpoint(here / name, (here / name,))


def _saved(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The files of a folder that is one checkpoint, if it is."""
    for stem in SAVED:
        for suffix in (".safetensors", ".bin"):
            if f"{stem}{suffix}" in names:
                return (folder / f"{stem}{suffix}",)
            if f"{stem}{suffix}.index.json" in names:
                return _shards(folder / f"{stem}{suffix}.index.json")
    return ()


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names: in its own folder, nowhere else."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise damaged(index, "weight_map does not say which file has which tensor")
    files = sorted(set(shards.values()))
    for name in files:
        if Path(name).name != name or not name.endswith(SUFFIXES):
            raise UserError(f"{index}: {name!r} is no file with weights in this folder")
    return tuple(index.parent / name for name in files)


def _natural(name: str) -> list[tuple[int, str]]:
    """``trial_2`` comes before ``trial_10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d{1,18})", name)]
