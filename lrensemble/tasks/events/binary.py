"""What readers of binary event files share: headers of text lines, and whole records of a bounded number."""

from __future__ import annotations

import io
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.opening import clear_read_errors, damaged
from lrensemble.tasks.events.recording import check_memory

MOST_HEADER = 1 << 20  # bytes of text lines: jAER writes all its preferences there


def text_header(file: io.BufferedReader, path: Path, mark: bytes, end: bytes = b"") -> list[str]:
    """The lines that begin with `mark`, up to one that begins with `end`; the file stands behind them."""
    lines: list[str] = []
    start = file.tell()
    while file.peek(1)[:1] == mark:
        line = file.readline(MOST_HEADER)
        if file.tell() - start >= MOST_HEADER:
            raise damaged(path, f"a header of more than {MOST_HEADER:,} bytes")
        lines.append(line.decode("latin-1").strip())
        if end and line.startswith(end):
            break
    return lines


def records(file: io.BufferedReader, path: Path, dtype: Any, events: int = 1) -> tuple[Array, int]:
    """The rest of the file as records, and how many bytes of a last one are there; one takes the memory of `events`."""
    kind = np.dtype(dtype)
    with clear_read_errors(path):
        size = os.fstat(file.fileno()).st_size - file.tell()
        count, cut = divmod(size, kind.itemsize)
        check_memory(path, count * events)
        data = file.read(count * kind.itemsize)
    return np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind), cut


def forward(is_here: Array, values: Array, start: int = 0) -> Array:
    """At every place the value at the last place where `is_here` is true, `start` before the first."""
    last = np.maximum.accumulate(np.where(is_here, np.arange(len(is_here)), -1))
    return np.where(last >= 0, values[last], start) if len(last) else values


def write_bytes(path: Path, data: bytes) -> None:
    """Make a file appear whole, or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
