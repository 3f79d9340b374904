"""Prophesee's formats: .dat (CD events of N-CARS and others), and .raw in EVT 2.0 and EVT 3.0.

https://docs.prophesee.ai/stable/data/encoding_formats/index.html
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.opening import damaged
from lrensemble.tasks.events.binary import forward, records, text_header, write_bytes
from lrensemble.tasks.events.recording import Recording, Sensor, check_memory, recording, unwrapped

CD_TYPES = (0, 12)  # Event2d, EventCD
TRIGGERS = 14
RECORD_BYTES = 8
Y, X, BASE, VECT_12, VECT_8, TIME_LOW, TIME_HIGH = 0, 2, 3, 4, 5, 6, 8  # words of EVT 3.0


def read_dat(file: io.BufferedReader, path: Path, sensor: Sensor | None) -> Recording:
    """A .dat of version 1 or 2: with its text header, or records alone (version 1)."""
    lines = text_header(file, path, b"%")
    version = 1
    if lines:
        kind, size = (file.read(2) + b"\xff\xff")[:2]
        if kind == TRIGGERS:
            raise UserError(f"{path}: it holds trigger events, no events of pixels")
        if kind not in CD_TYPES or size != RECORD_BYTES:
            raise damaged(path, f"events of type {kind} and {size} bytes: type 0 or 12 and 8 bytes are known")
        found = [line.split()[-1] for line in lines if re.match(r"%\s*Version\s+\S+$", line)]
        if any(text not in ("1", "2") for text in found):
            raise UserError(f"{path}: version {found[0]} of .dat: 1 and 2 are known")
        version = int(found[-1]) if found else 1
    words, cut = records(file, path, "<u4, <u4")
    t, wraps = unwrapped(words["f0"], 1 << 32)
    word = words["f1"]
    bits = (14, 14) if version == 2 else (9, 8)
    x, y, p = _fields(word, *bits)
    return recording(t, x, y, p, where=path, sensor=sensor or _header_sensor(lines), cut_bytes=cut, wraps=wraps)


def _fields(word: Array, x_bits: int, y_bits: int) -> tuple[Array, Array, Array]:
    x, y = word & ((1 << x_bits) - 1), (word >> x_bits) & ((1 << y_bits) - 1)
    return x.astype(np.uint16), y.astype(np.uint16), ((word >> (x_bits + y_bits)) & 1).astype(np.uint8)


def _header_sensor(lines: list[str]) -> Sensor | None:
    """What a header says of the sensor; of N-CARS it says nothing."""
    text = "\n".join(lines)
    sides = [re.search(rf"\b{name}[ =]+(\d{{1,5}})\b", text, re.IGNORECASE) for name in ("width", "height")]
    if all(sides):
        width, height = (int(side[1]) for side in sides if side)
        return (width, height) if width and height else None
    geometry = re.search(r"\bgeometry\s+(\d{1,5})x(\d{1,5})\b", text)
    return (int(geometry[1]), int(geometry[2])) if geometry else None


def write_dat(path: Path, events: Recording) -> None:
    """Write a .dat of version 2; `UserError` where it cannot hold the events."""
    if len(events) and (events.t[0] < 0 or max(events.size) > 1 << 14 or np.diff(events.t).max(initial=0) >= 1 << 31):
        raise UserError(f"{path}: .dat holds times from 0, no pauses of 36 minutes, and pixels below 16,384")
    if len(events) and events.t[0] >= 1 << 32:
        raise UserError(f"{path}: .dat begins within the first 72 minutes, the first event is at {events.t[0]:,} us")
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = events.t & 0xFFFFFFFF
    words[:, 1] = events.x | events.y.astype(np.uint32) << 14 | events.p.astype(np.uint32) << 28
    size = f"% Height {events.sensor[1]}\n% Width {events.sensor[0]}\n" if events.sensor else ""
    header = f"% Data file containing CD events.\n% Version 2\n{size}".encode() + bytes((12, RECORD_BYTES))
    write_bytes(path, header + words.tobytes())


def read_raw(file: io.BufferedReader, path: Path, sensor: Sensor | None) -> Recording:
    """A .raw, in the encoding that its header names."""
    lines = text_header(file, path, b"%", b"% end")
    text = "\n".join(lines).lower()
    found = re.search(r"%\s*(?:evt\s+|format\s+evt)(\d(?:\.\d)?)", text)
    if not found:
        raise UserError(f"{path}: its header names no encoding ('% evt 3.0', '% format EVT3'): not read")
    version = found[1].removesuffix(".0")
    if version not in RAW:
        raise UserError(f"{path}: encoded as EVT {found[1]}: EVT 2.0 and EVT 3.0 are read, .dat can be made of others")
    return RAW[version](file, path, sensor or _header_sensor(lines))


def _evt2(file: io.BufferedReader, path: Path, sensor: Sensor | None) -> Recording:
    words, cut = records(file, path, "<u4")
    kind = words >> 28
    is_time = kind == 8
    high = np.zeros(len(words), np.int64)
    high[is_time], wraps = unwrapped(words[is_time] & 0xFFFFFFF, 1 << 28)
    high = forward(is_time, high, start=-1)
    is_event = kind <= 1
    is_timed = is_event & (high >= 0)
    events = words[is_timed]
    t = high[is_timed] << 6 | (events >> 22) & 0x3F
    untimed = int(np.count_nonzero(is_event) - len(events))
    x, y, p = (events >> 11) & 0x7FF, events & 0x7FF, events >> 28
    return recording(t, x, y, p, where=path, sensor=sensor, cut_bytes=cut, untimed=untimed, wraps=wraps)


def _evt3(file: io.BufferedReader, path: Path, sensor: Sensor | None) -> Recording:
    words, cut = records(file, path, "<u2", events=3)  # of memory: states of every word
    kind, value = words >> 12, words & 0xFFF
    is_high, is_low, is_base = kind == TIME_HIGH, kind == TIME_LOW, kind == BASE
    high = np.zeros(len(words), np.int64)
    high[is_high], wraps = unwrapped(value[is_high], 1 << 12)
    # A new high word begins with the low one at 0, the same once more does not (as in OpenEB's decoder).
    is_new = is_high.copy()
    is_new[is_high] = np.diff(high[is_high], prepend=-1) != 0
    t = forward(is_high, high, start=-1) << 12 | forward(is_low | is_new, np.where(is_low, value, 0)).astype(np.int64)
    y = forward(kind == Y, value & 0x7FF)
    # A vector is 12 or 8 pixels in a row; the next one of the same base goes on behind it.
    lengths = np.where(kind == VECT_12, 12, np.where(kind == VECT_8, 8, 0))
    before = np.cumsum(lengths) - lengths
    base = forward(is_base, (value & 0x7FF) - before) + before
    polarity = forward(is_base, value >> 11)
    is_vector = lengths > 0
    bits = np.where(kind == VECT_8, value & 0xFF, value)[is_vector]
    check_memory(path, int(np.bitwise_count(bits).sum()) + len(words))
    vector, pixel = np.nonzero(bits[:, None] >> np.arange(12, dtype=np.uint16) & 1)
    single, vectors = np.flatnonzero(kind == X), np.flatnonzero(is_vector)[vector]
    place = np.concatenate([single, vectors])
    x = np.concatenate([value[single] & 0x7FF, base[vectors] + pixel])
    p = np.concatenate([value[single] >> 11, polarity[vectors]])
    order = np.argsort(place, kind="stable")  # as in the file, so that equal times stay in their order
    place, x, p = place[order], x[order], p[order]
    is_timed = t[place] >= 0
    untimed = len(place) - int(np.count_nonzero(is_timed))
    place, x, p = place[is_timed], x[is_timed], p[is_timed]
    return recording(t[place], x, y[place], p, where=path, sensor=sensor, cut_bytes=cut, untimed=untimed, wraps=wraps)


RAW: dict[str, Callable[[io.BufferedReader, Path, Sensor | None], Recording]] = {"2": _evt2, "3": _evt3}
