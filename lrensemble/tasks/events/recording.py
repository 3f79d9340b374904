"""One recording of an event camera: what happened when and where, checked and in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

from lrensemble.array import Array
from lrensemble.errors import MachineError, UserError

Sensor = tuple[int, int]  # width, height in pixels
EVENT_BYTES = 40  # of memory that an event takes while it is read: t, x, y, p, and what sorting and masks take
OUTSIDE_DOUBT = 0.01  # share of events outside the sensor above which something is wrong with the sensor
LARGEST = 1 << 15  # pixels a side ...
MOST_PIXELS = 1 << 24  # ... and in all: more than any camera has, and still a picture

# What a reader may have to say of a recording, by the keys of `Recording.counts`.
SAYINGS = {
    "outside": "events outside of the sensor, dropped",
    "unsorted": "recordings whose times were not in order, sorted",
    "overflow": "overflow markers, no events",
    "untimed": "events before the first time word, dropped",
    "invalid": "events that the camera marked as invalid, dropped",
    "cut_bytes": "bytes of a last record that is cut off, ignored",
    "wraps": "wraps of the clock, undone",
}


@dataclass(frozen=True)
class Recording:
    """Events in the order of time.

    Attributes
    ----------
    t : (E,) int64, microseconds, as in the file (wraps of its clock undone)
    x, y : (E,) uint16, pixels from the upper left corner
    p : (E,) uint8, 1 where it became brighter (ON), 0 where darker (OFF)
    sensor : (width, height), None where neither the file nor the user says it
    counts : what was dropped or repaired, by the keys of `SAYINGS`
    """

    t: Array
    x: Array
    y: Array
    p: Array
    sensor: Sensor | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.t)

    @property
    def duration(self) -> int:
        """Microseconds from the first event to the last."""
        return int(self.t[-1] - self.t[0]) if len(self) else 0

    @property
    def size(self) -> Sensor:
        """The sensor, or as much of one as the events need."""
        if self.sensor:
            return self.sensor
        return (int(self.x.max()) + 1, int(self.y.max()) + 1) if len(self) else (0, 0)


def recording(
    t: Array, x: Array, y: Array, p: Array, *, where: object, sensor: Sensor | None = None, **counts: int
) -> Recording:
    """A `Recording` of events in any order and of any types of numbers.

    Raises
    ------
    UserError
        Arrays of other lengths, numbers that are no whole ones, polarities beside 0 and 1, or -1 and 1.
    """
    t, x, y, p = (np.asarray(a) for a in (t, x, y, p))
    if not t.shape == x.shape == y.shape == p.shape or t.ndim != 1:
        raise UserError(f"{where}: t, x, y and p must be arrays of one length, not of {t.shape}, {x.shape}, {y.shape} "
                        f"and {p.shape}")  # fmt: skip
    sensor = None if sensor is None else check_sensor(sensor, where)
    t, x, y = (_whole(a, name, where) for a, name in ((t, "t"), (x, "x"), (y, "y")))
    p = _polarity(p, where)
    width, height = sensor or (LARGEST, LARGEST)
    outside = 0
    if len(t) and (min(x.min(), y.min()) < 0 or x.max() >= width or y.max() >= height):
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        if sensor is None:
            row = int(np.argmin(inside))
            raise UserError(f"{where}: event {row} is at ({x[row]}, {y[row]}): no sensor has that pixel")
        outside = len(inside) - int(np.count_nonzero(inside))
        t, x, y, p = t[inside], x[inside], y[inside], p[inside]
    if sensor is None and len(t) and (int(x.max()) + 1) * (int(y.max()) + 1) > MOST_PIXELS:
        raise UserError(f"{where}: pixels up to ({x.max()}, {y.max()}): no sensor is so large; sensor says which it is")
    unsorted = bool((t[1:] < t[:-1]).any())
    if unsorted:
        order = np.argsort(t, kind="stable")
        t, x, y, p = t[order], x[order], y[order], p[order]
    counts = {key: n for key, n in {**counts, "outside": outside, "unsorted": int(unsorted)}.items() if n}
    return Recording(t.astype(np.int64, copy=False), x.astype(np.uint16, copy=False), y.astype(np.uint16, copy=False),
                     p, sensor, counts)  # fmt: skip


def check_sensor(sensor: Any, where: object) -> Sensor:
    """(width, height) from one number or two."""
    pair = (sensor, sensor) if isinstance(sensor, int | np.integer) else tuple(sensor)
    if (
        len(pair) != 2
        or not all(isinstance(n, int | np.integer) and 0 < n <= LARGEST for n in pair)
        or pair[0] * pair[1] > MOST_PIXELS
    ):
        raise UserError(f"{where}: a sensor of {sensor} is not possible: width and height in pixels, as in [120, 100]")
    return int(pair[0]), int(pair[1])


def _whole(values: Array, name: str, where: object) -> Array:
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.floor(values)).any() or (abs(values) > 2**53).any():
            fix = "data.unit=s (or ms) says that they are seconds" if name == "t" else "pixels are whole numbers"
            raise UserError(f"{where}: {name} holds numbers that are not whole: {fix}")
        return values.astype(np.int64)
    if values.dtype.kind not in "iu":
        raise UserError(f"{where}: {name} holds {values.dtype}, whole numbers are needed")
    if values.dtype.itemsize == 8 and len(values) and (values.max() > 2**60 or values.min() < -(2**60)):
        raise UserError(f"{where}: {name} holds {max(values.max(), values.min(), key=abs)}, which is too large")
    return values


def _polarity(p: Array, where: object) -> Array:
    """0 and 1 as uint8, never bool: as an index of torch uint8 and bool arrays are masks."""
    if p.dtype == np.bool_ or not len(p):
        return p.astype(np.uint8)
    if p.dtype.kind not in "iuf":
        raise UserError(f"{where}: polarities are {p.dtype}, 0 and 1 (or -1 and 1) are needed")
    low, high = p.min(), p.max()
    negative = p.dtype.kind != "u" and low < 0
    wrong = (p != -1) & (p != 1) if negative else (p != 0) & (p != 1)
    if wrong.any():
        raise UserError(f"{where}: polarities from {low} to {high} (event {int(np.argmax(wrong))}): "
                        f"{'-1 and 1 only' if negative else '0 and 1, or -1 and 1,'} are understood")  # fmt: skip
    return (p > 0).astype(np.uint8)


def unwrapped(t: Array, period: int) -> tuple[Array, int]:
    """Times of a clock that begins anew after `period`, going on, as int64; and how often it did.

    A fall of more than half of a period is a wrap; a smaller one is disorder, which `recording` sorts.
    """
    if not (t[1:] < t[:-1]).any():
        return t.astype(np.int64), 0
    steps = np.diff(t.astype(np.int64))
    wraps = (steps < -(period // 2)).astype(np.int64) - (steps > period // 2)
    # A late event from before the wrap is a rise of more than half: it goes back, if there was a wrap to go back over.
    turns = np.maximum(np.concatenate([[0], np.cumsum(wraps)]), 0)
    return t.astype(np.int64) + turns * period, int(turns.max())


def summary(recordings: Mapping[str, int], events: int) -> list[str]:
    """Sentences about the added `Recording.counts` of some recordings that have so many events."""
    lines = []
    for key, count in recordings.items():
        share = count / max(events + count, 1)
        doubt = f" ({share:.1%}: is the sensor right?)" if key == "outside" and share > OUTSIDE_DOUBT else ""
        lines.append(f"{count:,} {SAYINGS[key]}{doubt}")
    return lines


def total(recordings: list[Recording]) -> Counter[str]:
    """The `counts` of all."""
    added: Counter[str] = Counter()
    for one in recordings:
        added.update(one.counts)
    return added


def check_memory(where: object, events: int) -> None:
    """Raise `MachineError` when so many events do not fit."""
    needed, free = events * EVENT_BYTES, psutil.virtual_memory().available
    if needed > free:
        raise MachineError(f"{where}: {events:,} events need {needed / 2**30:.1f} GiB of memory, "
                           f"{free / 2**30:.1f} are free")  # fmt: skip
