"""The file of an offline run of Weights & Biases, which keeps its configuration and history nowhere else.

A log of LevelDB's format whose records are protocol buffers (wandb/proto/wandb_internal.proto): of these the few fields
that are needed are read, by their numbers, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrensemble.opening import MOST_TEXT, damaged, read_bytes

HEADER = b":W&B\xe1\xbe\x00"
BLOCK = 32768
# Numbers of fields: of Record; of RunRecord; of HistoryRecord and ConfigRecord; of their items.
HISTORY, CONFIG, RUN = 2, 5, 17
RUN_CONFIG, ITEMS, KEY, NESTED, VALUE = 4, 1, 1, 2, 16
MOST_RECORDS = 1_000_000


def read_log(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Configuration and lines of the history; `UserError` for a file that is none. A cut-off end is left out."""
    data = read_bytes(path, MOST_TEXT)
    if not data.startswith(HEADER):
        raise damaged(path, "no log of an offline run")
    config: dict[str, Any] = {}
    lines: list[dict[str, Any]] = []
    try:
        for _, record in zip(range(MOST_RECORDS), _records(data), strict=False):
            for number, inside in _fields(record):
                if number == HISTORY:
                    lines.append(_items(inside))
                elif number == CONFIG:
                    config |= _items(inside)
                elif number == RUN:
                    config |= {k: v for n, part in _fields(inside) if n == RUN_CONFIG for k, v in _items(part).items()}
    except (ValueError, IndexError, RecursionError) as error:
        raise damaged(path, error) from None
    return {key: value for key, value in config.items() if key != "_wandb"}, lines


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a log: each of one piece or several, none of which crosses a block."""
    at, parts = len(HEADER), b""
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        piece = data[at + 7 : at + 7 + length]
        if kind == 0 or len(piece) < length:  # an empty end, or cut off
            return
        parts = piece if kind in (1, 2) else parts + piece
        if kind in (1, 4):
            yield parts
        at += 7 + length


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of the fields of a message that have a length; others are passed over."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a field is longer than its record")
            yield tag >> 3, data[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than ten bytes")


def _items(data: bytes) -> dict[str, Any]:
    """Values by their names, nested ones with dots: each is JSON."""
    found = {}
    for number, item in _fields(data):
        if number != ITEMS:
            continue
        names, value = [], None
        for field, inside in _fields(item):
            if field in (KEY, NESTED):
                names.append(inside.decode())
            elif field == VALUE:
                value = json.loads(inside)
        found[".".join(names)] = value
    return found
