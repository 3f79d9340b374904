"""A .pt2 file, read without running anything of it.

``torch.export.load`` trusts its file: it unpickles, evaluates expressions and makes code of names, and its zip reader
and Python's see different entries in a file that was made for it. So nothing of the file reaches torch as it is: its
entries are read once, checked, and written into a new archive in memory, each name once. That one is loaded, and what
its graph would compute is sized before it runs.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from lrensemble.errors import UserError
from lrensemble.export.program import FIXED_TENSOR, ITEM_BYTES, Refused, copy_graph, fields, flag, mapping, one_of, path
from lrensemble.models import MemoryLimit
from lrensemble.pool.sizes import size_text

MOST_BYTES = 2**30  # of memory that the graph needs for one image
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OSError,
    EOFError,
    RuntimeError,  # an encrypted entry
    NotImplementedError,  # of zipfile: a compression or a version
    RecursionError,
)
_CONFIG = {"data/weights/": "weight", "data/constants/": "tensor"}  # folder and how its files are called


def load_program(file: Path) -> nn.Module:
    """The module in a .pt2 file.

    Raises
    ------
    UserError
        It is damaged, holds more than a graph of tensor operations, or needs more than `MOST_BYTES` for one image.
    """
    try:
        with file.open("rb") as source:
            checked, shape = copy_archive(source)
    except Refused as refused:
        raise UserError(f"{file} is not loaded: {refused}; a team's file holds tensor operations alone") from None
    except _DAMAGED as error:
        raise UserError(f"{file}: cut off, or no program of torch.export ({_line(error)})") from None
    try:
        module: nn.Module = torch.export.load(checked).module()
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):  # sizes alone, nothing is computed
            image = torch.empty(1, *shape)
            with MemoryLimit(MOST_BYTES, f"{file} is not loaded: it needs more than {size_text(MOST_BYTES)} an image"):
                module(image)
    except UserError:
        raise
    except Exception as error:  # whatever torch says of a graph that does not hang together
        raise UserError(f"{file} is not loaded: torch cannot make a module of it ({_line(error)})") from None
    return module


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1].strip()[:200]}" if lines else type(error).__name__


# The archive


def copy_archive(source: BinaryIO) -> tuple[io.BytesIO, list[int]]:
    """A new archive of the checked entries, and the size of one image; raises `Refused`, and others for no archive."""
    size = source.seek(0, io.SEEK_END)
    archive = zipfile.ZipFile(source)
    entries = _entries(archive.infolist(), size)
    copies = {"archive_format": b"pt2", "archive_version": b"0", ".data/version": b"6\n", "byteorder": b"little"}
    shape: list[int] = []
    wanted: set[str] = set()
    for entry in entries:
        folder = next((f for f in _CONFIG if entry.startswith(f)), "")
        if entry == "models/model.json":
            copies[entry], shape = copy_graph(archive.read(entries[entry]))
            copies["data/sample_inputs/model.pt"] = b""
        elif folder and entry == f"{folder}model_{folder.split('/')[1]}_config.json":
            copies[entry], files = _copy_config(archive.read(entries[entry]), folder, entries)
            wanted |= files
        elif entry in ("archive_format", "archive_version", "byteorder"):
            if archive.read(entries[entry]) != copies[entry]:
                raise Refused(f"{entry} is not {copies[entry].decode()}")
        elif re.fullmatch(r"data/sample_inputs/\w+\.pt", entry):
            if entries[entry].file_size:
                raise Refused("its sample inputs may be pickled Python objects")
        elif not re.fullmatch(r"data/weights/weight_\d+|data/constants/tensor_\d+|\.data/\w+", entry):
            raise Refused(f"it holds {entry[:80]!r}")
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as new:
        for entry, data in copies.items():
            new.writestr(f"archive/{entry}", data)
        for entry in sorted(wanted):
            new.writestr(f"archive/{entry}", archive.read(entries[entry]))
    target.seek(0)
    return target, shape


def _entries(infos: list[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
    """By their names in the archive's folder; every name once, nothing compressed, not more than the file's `size`."""
    found: dict[str, zipfile.ZipInfo] = {}
    if infos and min(info.header_offset for info in infos) > 0:
        raise Refused("something stands before its first part")
    for info in infos:
        folder, _, entry = info.filename.partition("/")
        if found and folder != next(iter(found.values())).filename.partition("/")[0]:
            raise Refused(f"it holds two folders, one of them {folder[:80]!r}")
        if entry in found:
            raise Refused(f"it holds {entry[:80]!r} twice")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise Refused(f"{entry[:80]!r} is compressed")
        size -= info.file_size
        found[entry] = info
    if size < 0:
        raise Refused("its parts are larger than the file")
    return found


def _copy_config(text: bytes, folder: str, entries: dict[str, zipfile.ZipInfo]) -> tuple[bytes, set[str]]:
    """Which tensors are in which files of a folder: a copy, and the files."""
    if any(meta.get("use_pickle") for meta in json.loads(text)["config"].values()):
        raise Refused("it holds pickled Python objects")
    known = {e.removeprefix(folder) for e in entries if re.fullmatch(rf"{folder}{_CONFIG[folder]}_\d+", e)}
    payload = fields(path_name=one_of(known), is_param=flag, use_pickle=one_of({False}), tensor_meta=FIXED_TENSOR)
    copy = fields(config=mapping(path, payload))(json.loads(text))
    for weight, meta in copy["config"].items():
        _check_place(weight, meta["tensor_meta"], entries[folder + meta["path_name"]].file_size)
    return json.dumps(copy).encode(), {folder + meta["path_name"] for meta in copy["config"].values()}


def _check_place(weight: str, meta: dict[str, Any], size: int) -> None:
    """A tensor lies inside of its file of `size` bytes."""
    sizes, strides = ([one["as_int"] for one in meta[key]] for key in ("sizes", "strides"))
    if len(sizes) != len(strides) or min([*sizes, *strides, meta["storage_offset"]["as_int"]]) < 0:
        raise Refused(f"the shape of {weight} is {sizes}, its strides {strides}")
    last = meta["storage_offset"]["as_int"] + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if 0 not in sizes and (last + 1) * ITEM_BYTES[meta["dtype"]] > size:
        raise Refused(f"{weight} of shape {sizes} is larger than its file")
