"""Weights in files of other programs: read without executing anything, and found among what else a file holds.

A file is read as groups of tensors: each mapping in it (``state_dict``, ``state_dict_ema``, ...) is one.
"""

from __future__ import annotations

import argparse
import errno
import pickle
import re
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lrensemble.errors import UserError, first_line
from lrensemble.opening import check_packed, clear_read_errors, damaged, open_regular

Groups = Mapping[str, Mapping[str, Tensor]]  # by the path of each mapping: "", "state_dict.", ...
SHOWN = 3  # tensors named in an error
MOST_TENSORS = 1_000_000
DEPTH = 8  # of mappings in mappings


def read_checkpoint(path: Path) -> Any:
    """What a file holds: tensors and plain values; `UserError` where it holds more, or is none.

    timm puts its options into an ``argparse.Namespace``, which is a bag of values: that one class is taken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with open_regular(path) as file, clear_read_errors(path), warnings.catch_warnings():
            if path.suffix == ".safetensors":
                return load_file(path)
            if zipfile.is_zipfile(file):
                entries = zipfile.ZipFile(file).infolist()
                packed = sum(entry.compress_size for entry in entries)
                check_packed(path, sum(entry.file_size for entry in entries), packed)
            file.seek(0)
            warnings.simplefilter("ignore")  # of formats that are old
            with torch.serialization.safe_globals([argparse.Namespace]):
                try:
                    return torch.load(file, map_location="cpu", weights_only=True)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    raise damaged(path, "it points outside of itself") from None
    except pickle.UnpicklingError as error:
        what = re.search(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)", str(error))
        fix = f" ({what[1]})" if what else ""
        fix += ": not read" + (": save model.state_dict(), not the model" if "Unsupported" in str(error) else "")
        raise UserError(f"{path}: it holds more than tensors, or is no file of torch.save{fix}") from None
    except (
        SafetensorError,
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        NotImplementedError,
        struct.error,
    ) as error:  # whatever torch's reader makes of damaged bytes
        raise damaged(path, first_line(error)) from None


def tensor_groups(path: Path, content: Any) -> Groups:
    """All tensors in what a file holds; `UserError` where there are none."""
    groups: dict[str, dict[str, Tensor]] = {}
    seen: set[int] = set()

    def visit(value: Any, where: str, depth: int) -> None:
        if not isinstance(value, Mapping) or id(value) in seen or depth > DEPTH:
            return
        seen.add(id(value))
        if tensors := {str(key): inside for key, inside in value.items() if isinstance(inside, Tensor)}:
            groups[where] = tensors
        if sum(map(len, groups.values())) > MOST_TENSORS:
            raise UserError(f"{path}: more than {MOST_TENSORS:,} tensors are not read")
        for key, inside in value.items():
            visit(inside, f"{where}{key}.", depth + 1)

    visit(content, "", 0)
    if not groups:
        raise UserError(f"{path}: it holds no weights: tensors by name, or mappings of them (state_dict, model, ...)")
    return groups


@dataclass(frozen=True)
class Placed:
    """Tensors of a file by the names that a model has for them.

    Attributes
    ----------
    part : path and prefix in the file, ``state_dict.module.``
    others : names beside them, which are not of this model
    """

    tensors: dict[str, Tensor]
    part: str
    others: tuple[str, ...]


def places(own: Mapping[str, Tensor], groups: Groups, optional: Collection[str] = ()) -> list[Placed]:
    """Where most of a model's tensors are in a file, by their names: one place, or several that are as good.

    What all names of a place begin with is taken off, on both sides: ``module.`` (DataParallel), ``_orig_mod.``
    (torch.compile), ``model.`` and whatever else a training script wraps its model in. The names of adapters are
    those that peft writes, without the adapter's own.

    Parameters
    ----------
    own : the model's state
    optional : names that the file need not have: frozen parameters, which the builder gives
    """
    found: list[Placed] = []
    for head in _heads(own):
        names = {name.removeprefix(head): name for name in own}
        names = {_saved_name(name): target for name, target in names.items()} | names
        counts = Counter(
            (group, prefix)
            for group, tensors in groups.items()
            for name in tensors
            for prefix in _prefixes(name)
            if name.removeprefix(prefix) in names
        )
        most = max(counts.values(), default=0)
        best = [_placed(names, groups, *where) for where, count in counts.items() if count == most]
        found = max(found, best, key=lambda some: len(some[0].tensors) if some else 0)
        if any(not misfits(own, one, optional) for one in best):
            return [one for one in best if not misfits(own, one, optional)]
    if not found:  # nothing has a name that the model knows
        group = max(groups, key=lambda where: len(groups[where]))
        return [Placed(dict(groups[group]), group, ())]
    return found


def _placed(names: Mapping[str, str], groups: Groups, group: str, prefix: str) -> Placed:
    tensors, others = {}, []
    for name, value in groups[group].items():
        rest = name.removeprefix(prefix)
        if name.startswith(prefix):
            tensors[names.get(rest, rest)] = value
        else:
            others.append(name)
    return Placed(tensors, group + prefix, tuple(others))


def _heads(own: Iterable[str]) -> Iterator[str]:
    """Nothing, and what all names of a model begin with: files may have been written without it."""
    first, *rest = own or [""]
    for prefix in _prefixes(first):
        if prefix and not all(name.startswith(prefix) for name in rest):
            return
        yield prefix


def _prefixes(name: str) -> Iterator[str]:
    """Of ``a.b.c``: nothing, ``a.`` and ``a.b.``."""
    yield ""
    for dot in re.finditer(r"\.", name):
        yield name[: dot.end()]


def _saved_name(name: str) -> str:
    """As peft writes a tensor of an adapter."""
    return re.sub(r"(\.modules_to_save)?\.default(?=\.|$)", "", name)


def misfits(own: Mapping[str, Tensor], placed: Placed, optional: Collection[str] = ()) -> dict[str, set[str]]:
    """What does not fit, by what is wrong with it; nothing where all does.

    Two names of one tensor (tied weights) need one of them in the file; what batch norm counts is not needed.
    """
    tensors = placed.tensors
    missing = {name for name in own.keys() - tensors.keys() if not name.endswith("num_batches_tracked")}
    if missing:
        there = {_memory(own[name]) for name in own.keys() & tensors.keys()}
        missing = {name for name in missing - set(optional) if _memory(own[name]) not in there}
    other = {name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape}
    wrong = {"missing": missing, "not known": tensors.keys() - own.keys(), "of another shape": other}
    return {what: names for what, names in wrong.items() if names}


def _memory(value: Tensor) -> object:
    return (value.data_ptr(), value.shape) if value.numel() and not value.is_meta else object()


def listed(
    wrong: Mapping[str, Collection[str]], own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], most: int = SHOWN
) -> str:
    """What does not fit, in words: ``missing: a, b; of another shape: c (3,) for (4,)``."""

    def shape(name: str) -> str:
        if name not in own or name not in tensors:
            return name
        return f"{name} {tuple(tensors[name].shape)} for {tuple(own[name].shape)}"

    def few(names: Collection[str]) -> str:
        more = f" and {len(names) - most} more" if len(names) > most else ""
        return ", ".join(map(shape, sorted(names)[:most])) + more

    return "; ".join(f"{what}: {few(names)}" for what, names in wrong.items() if names)
