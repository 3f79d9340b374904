"""What recordings hold, as numbers and as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import MachineError, UserError
from lrensemble.tasks.events.formats import READERS, read_events
from lrensemble.tasks.events.recording import SAYINGS, Recording, Sensor
from lrensemble.tasks.events.sets import read_set
from lrensemble.tasks.sources import read_npz


def describe(path: Path, sensor: Sensor | int | None = None, unit: str | None = None) -> tuple[dict[str, Any], Array]:
    """Facts of a recording, a set or a folder, and its events added up: (2, H, W), OFF and ON.

    The facts: how many recordings, events (in all, and the least, median and most of a recording), seconds (likewise),
    rate (events a second), sensor, the share of ON, empty recordings, recordings of every class, what was dropped or
    repaired by the keys of `SAYINGS`, and files that cannot be read.

    Raises
    ------
    UserError
        Nothing there, or nothing that can be read.
    """
    events, seconds, classes = [], [], Counter[str]()
    dropped, unreadable = Counter[str](), list[str]()
    seen = np.zeros((2, 0, 0), np.int64)
    declared: Sensor | None = None
    for name, one in _recordings(path, sensor, unit, unreadable):
        events.append(len(one))
        seconds.append(one.duration / 1e6)
        classes[name] += 1
        dropped.update(one.counts)
        declared = one.sensor or declared
        width, height = one.size
        more = [(0, max(0, size - have)) for size, have in zip((height, width), seen.shape[1:], strict=True)]
        seen = np.pad(seen, [(0, 0), *more])
        pixels = np.bincount((one.p * np.int64(height) + one.y) * width + one.x, minlength=2 * height * width)
        seen[:, :height, :width] += pixels.reshape(2, height, width)
    if not events:
        problem = f": {unreadable[0]}" if unreadable else f" ({', '.join(READERS)})"
        raise UserError(f"{path}: no recordings that can be read{problem}")
    facts = {
        "recordings": len(events),
        "events": sum(events),
        "events_of_one": _spread(events),
        "seconds": round(sum(seconds), 6),
        "seconds_of_one": _spread(seconds),
        "rate": sum(events) / sum(seconds) if sum(seconds) else None,
        "sensor": list(declared or seen.shape[:0:-1]),
        "sensor_from": "the file" if declared and sensor is None else "the command" if sensor else "the events",
        "on_share": int(seen[1].sum()) / sum(events) if sum(events) else None,
        "empty": events.count(0),
        "classes": dict(sorted(classes.items())) if len(classes) > 1 else {},
        "dropped": {key: dropped[key] for key in SAYINGS if dropped[key]},
        "unreadable": unreadable,
    }
    return facts, seen


def _spread(values: list[Any]) -> list[Any]:
    """Least, median and most."""
    return [min(values), float(np.median(values)), max(values)]


def _recordings(
    path: Path, sensor: Sensor | int | None, unit: str | None, unreadable: list[str]
) -> Iterator[tuple[str, Recording]]:
    """Each recording with its class or folder; one at a time where they are files."""
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.suffix.lower() in READERS):
            try:
                yield file.parent.name, read_events(file, sensor, unit)
            except MachineError:
                raise
            except UserError as error:
                unreadable.append(str(error))
    elif path.suffix.lower() == ".npz" and path.is_file() and "offsets" in read_npz(path):
        found = read_set(path, sensor=sensor, unit=unit)
        yield from zip((found.class_names[label] for label in found.labels), found.recordings, strict=True)
    else:
        yield "", read_events(path, sensor, unit)


def picture(seen: Array) -> Array:
    """RGB (H, W, 3) uint8 of events added up (2, H, W): red ON, blue OFF, the square root of their numbers."""
    shares = np.sqrt(seen / max(1, seen.max()))
    channels = [shares[1], np.zeros_like(shares[0]), shares[0]]
    return (255 * np.stack(channels, -1)).round().astype(np.uint8)


def in_characters(seen: Array, columns: int = 64) -> list[str]:
    """Events added up (2, H, W) as lines of shades, about square, for a terminal."""
    whole = seen.sum(0)
    height, width = whole.shape
    if not whole.any():
        return []
    step = max(1, -(-width // columns))  # pixels of a character; a line is twice as high
    rows, across = -(-height // (2 * step)), -(-width // step)
    padded = np.pad(whole, [(0, rows * 2 * step - height), (0, across * step - width)])
    cells = padded.reshape(rows, 2 * step, across, step).sum((1, 3))
    shades = " .:-=+*#%@"
    level = np.ceil(np.sqrt(cells / cells.max()) * (len(shades) - 1)).astype(int)
    return ["".join(shades[i] for i in row).rstrip() for row in level]
