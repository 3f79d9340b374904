"""Whether a .pt2 file holds a graph of plain tensor operations and nothing that would be executed as code.

``torch.export.load`` trusts its file: it unpickles, evaluates expressions and resolves any name in torch. So what it
would be given is looked through first, and everything that is not known to be harmless is refused.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrensemble.errors import UserError

_OPERATION = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.(add|sub|mul|floordiv|mod|neg|ge|gt|le|lt|eq|ne)")
# Sizes as SymPy writes them: symbols, whole numbers and arithmetic; no other call.
_SIZE = re.compile(
    r"(Symbol\('[su]\d+'(, (positive|integer|nonnegative)=True)*\)|Integer\(-?\d+\)|-?\d+|[su]\d+"
    r"|(torch\.utils\._sympy\.functions\.)?(FloorDiv|Mod|PythonMod|CleanDiv|Max|Min)|Add|Mul|[\s+\-*(),])*"
)
_NAME = re.compile(r"\w+")
_CODE = {"as_graph", "as_custom_obj", "as_operator"}  # arguments that are no plain values
_TREE = {None, "builtins.tuple", "builtins.list", "builtins.dict"}


def check_program(path: Path) -> None:
    """Raise `UserError` where the file is damaged or holds more than a graph of tensor operations."""
    try:
        with zipfile.ZipFile(path) as archive:
            reason = next(_suspicions(archive), None)
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{path}: cut off, or no program of torch.export ({error})") from None
    if reason:
        raise UserError(f"{path} is not loaded: {reason}; a team's file holds tensor operations alone")


def _suspicions(archive: zipfile.ZipFile) -> Iterator[str]:
    for full in archive.namelist():
        name = full.partition("/")[2]
        if name.endswith("_config.json"):
            for entry in json.loads(archive.read(full))["config"].values():
                if entry["use_pickle"] or not re.match(r"(weight|tensor)_\d+$", entry["path_name"]):
                    yield "it holds pickled Python objects"
        elif re.fullmatch(r"data/sample_inputs/\w+\.pt", name):
            if archive.read(full):
                yield "its sample inputs may be pickled Python objects"
        elif re.fullmatch(r"models/\w+\.json", name):
            yield from _suspicions_of_graph(json.loads(archive.read(full)))
        elif not re.fullmatch(
            r"data/(weights|constants)/\w+|\.data/\w+|archive_format|archive_version|byteorder", name
        ):
            yield f"it holds {name}"


def _suspicions_of_graph(program: dict[str, Any]) -> Iterator[str]:
    graph = program["graph_module"]["graph"]
    if program.get("guards_code") or graph.get("custom_obj_values"):
        yield "it holds Python code or objects"
    for symbol in program["range_constraints"]:
        if not _NAME.fullmatch(symbol):
            yield f"a size is {symbol!r}"
    for node in graph["nodes"]:
        if not _OPERATION.fullmatch(node["target"]):
            yield f"one of its operations is {node['target']!r}"
        if node["metadata"]:
            yield "it holds metadata of other programs"
    for key, value in _walk(program["graph_module"]):
        if key in _CODE:
            yield f"an argument is no plain value ({key})"
        if key == "expr_str" and not _SIZE.fullmatch(value):
            yield f"a size is {value!r}"
        if key in ("in_spec", "out_spec"):
            for inner, kind in _walk(json.loads(value) if value else None):
                if inner == "type" and kind not in _TREE:
                    yield f"an input or output is a {kind}"


def _walk(data: Any) -> Iterator[tuple[str, Any]]:
    """All keys with their values, however deep."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield key, value
            yield from _walk(value)
    elif isinstance(data, list):
        for value in data:
            yield from _walk(value)
