"""Event files written word by word from the formats' descriptions, for readers to be judged by."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from lrensemble.tasks.events import simulate
from lrensemble.tasks.events.sets import EventSet

Events = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # t, x, y, p


def some_events(n: int = 200, width: int = 120, height: int = 100, seed: int = 0, most_pause: int = 1000) -> Events:
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(0, most_pause, n))
    return t, rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n)


def is_read(read: Any, events: Events) -> bool:
    return all(np.array_equal(getattr(read, key), values) for key, values in zip("txyp", events, strict=True))


def dat(path: Path, events: Events, version: int | None = 2, header: bool = True, kind: int = 12) -> Path:
    shifts = (14, 28) if version == 2 else (9, 17)
    text = b"% Data file\n" + (b"" if version is None else b"% Version " + str(version).encode() + b"\n")
    body = b"".join(
        struct.pack("<II", t % 2**32, x | y << shifts[0] | p << shifts[1])
        for t, x, y, p in zip(*(a.tolist() for a in events), strict=True)
    )
    path.write_bytes((text + bytes((kind, 8)) if header else b"") + body)
    return path


def atis(path: Path, events: Events, markers: bool = False) -> Path:
    """5-byte events; with `markers` times below 2^13 and a row of y = 240 for every 2^13 us that pass."""
    rows, passed = [], 0
    for t, x, y, p in zip(*(a.tolist() for a in events), strict=True):
        while markers and t - passed >= 1 << 13:
            passed += 1 << 13
            rows.append(bytes((7, 240, 0, 0, 0)))
        rows.append(bytes((x, y)) + (p << 23 | (t - passed) % 2**23).to_bytes(3, "big"))
    path.write_bytes(b"".join(rows))
    return path


def evt2(path: Path, events: Events, header: bytes = b"% evt 2.0\n% geometry 120x100\n% end\n") -> Path:
    words, last = [], -1
    for t, x, y, p in zip(*(a.tolist() for a in events), strict=True):
        if t >> 6 != last:
            last = t >> 6
            words.append(8 << 28 | last % 2**28)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
        words.append(0xA << 28 | 5)  # a trigger
    path.write_bytes(header + struct.pack(f"<{len(words)}I", *words))
    return path


def evt3_words(groups: int, seed: int = 0, most_pause: int = 3000) -> list[int]:
    """Single and vectorised events in random order, as a sensor of 1280x720 may write them."""
    rng = np.random.default_rng(seed)
    words, t = [], 0
    for i in range(groups):
        t += int(rng.integers(0, most_pause))
        if rng.random() < 0.5 or not i:
            words += [0x8000 | t >> 12 & 0xFFF, 0x6000 | t & 0xFFF]
        words.append(int(rng.integers(0, 720)))
        for _ in range(rng.integers(1, 4)):
            polarity = int(rng.integers(0, 2)) << 11
            if rng.random() < 0.5:
                words.append(0x2000 | polarity | int(rng.integers(0, 1280)))
                continue
            words.append(0x3000 | polarity | int(rng.integers(0, 1200)))
            for _ in range(rng.integers(1, 4)):
                is_long = rng.random() < 0.7
                words.append((0x4000 if is_long else 0x5000) | int(rng.integers(0, 4096 if is_long else 256)))
        words += [0xA000 | int(rng.integers(0, 4096))] * int(rng.integers(0, 2))  # a trigger
    return words


def evt3(path: Path, words: list[int]) -> Path:
    header = b"% evt 3.0\n% format EVT3;height=720;width=1280\n% end\n"
    path.write_bytes(header + struct.pack(f"<{len(words)}H", *words))
    return path


def aedat2(path: Path, events: Events, davis: bool = False) -> Path:
    lines = b"#!AER-DAT2.0\r\n# Data format is int32 address, int32 timestamp\r\n"
    lines += b"# AEChip: eu.seebetter.ini.chips.davis.Davis346blue\r\n" if davis else b""
    body = b""
    for t, x, y, p in zip(*(a.tolist() for a in events), strict=True):
        address = (259 - y) << 22 | (345 - x) << 12 | p << 11 if davis else y << 8 | (127 - x) << 1 | 1 - p
        body += struct.pack(">II", address, t)
        body += struct.pack(">II", 0x80000000 | 77 << 12 if davis else 0x8000, t)  # of a frame; an external event
    path.write_bytes(lines + body)
    return path


def aedat3(path: Path, events: Events, invalid: int = 3, overflow: int = 0) -> Path:
    """Two packets of polarities with room for more than they hold between packets of other things."""
    words = [(x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in zip(*(a.tolist() for a in events), strict=True)]
    words[:0] = [(5 << 17 | 5 << 2, 0)] * invalid
    body = struct.pack("<2h6i", 0, 1, 8, 4, 0, 4, 1, 1) + bytes(8)  # special events
    for part in (words[: len(words) // 2], words[len(words) // 2 :]):
        body += struct.pack("<2h6i", 1, 1, 8, 4, overflow, len(part) + 10, len(part), len(part))
        body += b"".join(struct.pack("<Ii", word, t) for word, t in part)
    path.write_bytes(b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n" + body)
    return path


INFO = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/"><node name="0" path="/0/">
<attr key="compression" type="string">NONE</attr><attr key="originalModuleName" type="string">capture</attr>
<attr key="originalOutputName" type="string">events</attr><attr key="typeIdentifier" type="string">EVTS</attr>
<node name="info" path="/0/info/"><attr key="sizeX" type="int">346</attr><attr key="sizeY" type="int">260</attr>
<attr key="source" type="string">DAVIS346</attr></node></node></node></dv>"""


def aedat4(path: Path, events: Events) -> Path:
    """One uncompressed packet, its two FlatBuffers laid out by hand."""
    text = INFO.encode()
    vtable = struct.pack("<5H", 10, 24, 4, 8, 16) + bytes(2)  # compression, place of the data table, information
    table = struct.pack("<iiqI4x", 12, 0, -1, 8) + struct.pack("<I", len(text)) + text + b"\0"
    header = struct.pack("<I4s", 8 + 12, b"IOHE") + vtable + table
    rows = b"".join(
        struct.pack("<qhh?3x", t, x, y, bool(p)) for t, x, y, p in zip(*(a.tolist() for a in events), strict=True)
    )
    vtable = struct.pack("<3H", 6, 8, 4) + bytes(2)
    packet = struct.pack("<I4s", 16, b"EVTS") + vtable + struct.pack("<iI", 8, 8) + bytes(4)
    packet += struct.pack("<I", len(events[0])) + rows
    packet = struct.pack("<I", len(packet)) + packet
    body = struct.pack("<I", len(header)) + header + struct.pack("<ii", 0, len(packet)) + packet
    path.write_bytes(b"#!AER-DAT4.0\r\n" + body)
    return path


def pictures(n: int = 60) -> EventSet:
    """Simulated events of bars, standing or lying."""
    rng = np.random.default_rng(0)
    images, labels = np.zeros((n, 14, 14), np.float32), np.arange(n) % 2
    for image, label in zip(images, labels, strict=True):
        at = rng.integers(2, 9)
        image[(slice(2, 12), slice(at, at + 3)) if label else (slice(at, at + 3), slice(2, 12))] = 0.9
    return EventSet(simulate(images), labels, ("lying", "standing"))


def bars_file(path: Path) -> Path:
    """`pictures` as an archive."""
    found = pictures()
    columns = {key: np.concatenate([getattr(one, key) for one in found.recordings]) for key in "txyp"}
    offsets = np.cumsum([0, *map(len, found.recordings)])
    np.savez(path, **columns, offsets=offsets, labels=found.labels, class_names=found.class_names)
    return path
