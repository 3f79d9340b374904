"""iniVation's formats: AEDAT 2.0 (jAER), 3.1 (cAER) and 4.0 (DV, by the package aedat).

https://docs.inivation.com/software/software-advanced-usage/file-formats/
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.installing import needed
from lrensemble.opening import clear_read_errors, damaged
from lrensemble.tasks.events.binary import records, text_header
from lrensemble.tasks.events.recording import Recording, Sensor, check_memory, recording, unwrapped

CAMERAS = {"DVS128": (128, 128), "DAVIS128": (128, 128), "DAVIS240": (240, 180), "DAVIS346": (346, 260)}
PACKET_HEADER = np.dtype(
    "<i2, <i2, <i4, <i4, <i4, <i4, <i4, <i4"
)  # type, source, size, offset of t, overflow, capacity, number, valid
POLARITY = 1  # type of a packet
MOST_EVENT = 1 << 20  # bytes of an event; frames are the largest


def read_aedat(file: io.BufferedReader, path: Path, sensor: Sensor | None) -> Recording:
    """AEDAT 2.0 or 3.1, by its first line."""
    first = file.peek(16)[:16]
    version = re.match(rb"#!AER-DAT(\d\.\d)", first)
    if version is None:
        raise UserError(f"{path}: it does not begin with '#!AER-DAT2.0' or '#!AER-DAT3.1': not read")
    if version[1] not in (b"2.0", b"3.1"):
        raise UserError(f"{path}: AEDAT {version[1].decode()}: 2.0, 3.1 and 4.0 (.aedat4) are read")
    lines = text_header(file, path, b"#", b"#!END-HEADER" if version[1] == b"3.1" else b"")
    return (_aedat2 if version[1] == b"2.0" else _aedat3)(file, path, lines, sensor)


def _camera(lines: list[str]) -> str | None:
    """The camera that a header names; jAER writes Davis346blue, cAER DAVIS346."""
    text = "\n".join(line for line in lines if re.search("AEChip|HardwareInterface|Source", line)).upper()
    return next((name for name in CAMERAS if name in text), None)


def _aedat2(file: io.BufferedReader, path: Path, lines: list[str], sensor: Sensor | None) -> Recording:
    """Big-endian address and time. As jAER shows them: x counts from the right, on a DAVIS y from below too."""
    camera = _camera(lines) or "DVS128"
    width, height = CAMERAS[camera]
    words, cut = records(file, path, ">u4, >u4")
    address = words["f0"].astype(np.uint32)
    if camera == "DVS128":  # bit 15: an external event; polarity 0 is ON
        is_event = (address & 0x8000) == 0
        x, y, p = (address >> 1) & 0x7F, (address >> 8) & 0x7F, 1 - (address & 1)
    else:  # bit 31: a sample of a frame or of the IMU; bit 10: a special event
        is_event = (address & 0x80000400) == 0
        x, y, p = (address >> 12) & 0x3FF, (address >> 22) & 0x1FF, (address >> 11) & 1
    t, wraps = unwrapped(words["f1"][is_event], 1 << 32)
    x = width - 1 - x[is_event].astype(np.int64)
    y = (height - 1 - y[is_event].astype(np.int64)) if camera != "DVS128" else y[is_event]
    return recording(t, x, y, p[is_event], where=path, sensor=sensor or (width, height), cut_bytes=cut, wraps=wraps)


def _aedat3(file: io.BufferedReader, path: Path, lines: list[str], sensor: Sensor | None) -> Recording:
    """Packets; of those with polarities as many events as they hold (`number`), not as they have room for."""
    with clear_read_errors(path):
        left = os.fstat(file.fileno()).st_size - file.tell()
        check_memory(path, left // 8)
        data = file.read(left)
    words: list[Array] = []
    overflows: list[Array] = []
    at = cut = 0
    while at < len(data):
        if at + PACKET_HEADER.itemsize > len(data):
            cut = len(data) - at
            break
        kind, _, size, _, overflow, _, number, _ = np.frombuffer(data, PACKET_HEADER, 1, at)[0].tolist()
        if not 0 < size <= MOST_EVENT or number < 0 or overflow < 0 or (kind == POLARITY and size != 8):
            raise damaged(path, f"at byte {at:,} of its packets: {number} events of {size} bytes and type {kind}")
        at += PACKET_HEADER.itemsize
        whole = min(number, (len(data) - at) // size)
        cut = min(number * size, len(data) - at) - whole * size if whole < number else 0
        if kind == POLARITY:
            words.append(np.frombuffer(data, "<u4, <i4", whole, at))
            overflows.append(np.full(whole, overflow, np.int64))
        at += number * size
    if not words:
        raise UserError(f"{path}: no packets of polarity events in it")
    events = np.concatenate(words)
    word, valid = events["f0"], (events["f0"] & 1) == 1
    t = np.concatenate(overflows)[valid] << 31 | events["f1"][valid].astype(np.int64)
    word = word[valid]
    camera = _camera(lines)
    return recording(t, (word >> 17) & 0x1FFF, (word >> 2) & 0x1FFF, (word >> 1) & 1, where=path, cut_bytes=cut,
                     sensor=sensor or (CAMERAS[camera] if camera else None),
                     invalid=int(len(events) - len(word)))  # fmt: skip


def read_aedat4(file: io.BufferedReader, path: Path, sensor: Sensor | None) -> Recording:
    """AEDAT 4.0; times count from the first event (in the file they are microseconds since 1970)."""
    with needed(f"{path}: .aedat4 needs the package aedat", "events"):
        import aedat
    parts = []
    count = 0
    try:
        decoder = aedat.Decoder(path)
        sizes = [(s["width"], s["height"]) for s in decoder.id_to_stream().values() if "width" in s]
        for packet in decoder:
            if "events" in packet:
                count += len(packet["events"])
                check_memory(path, count)
                parts.append(packet["events"])
    except UserError:
        raise
    except Exception as error:  # of the package: it has no type of its own
        raise damaged(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    if not parts:
        raise UserError(f"{path}: no packets of events in it")
    events = np.concatenate(parts)
    t = events["t"].astype(np.int64)
    return recording(t - (t.min() if len(t) else 0), events["x"], events["y"], events["on"], where=path,
                     sensor=sensor or (sizes[0] if sizes else None))  # fmt: skip
