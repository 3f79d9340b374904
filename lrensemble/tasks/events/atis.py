"""The 5-byte events of N-MNIST and N-Caltech101 (.bin, .bs2): Orchard et al. 2015, and their MATLAB scripts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from lrensemble.errors import UserError
from lrensemble.tasks.events.binary import records, write_bytes
from lrensemble.tasks.events.recording import Recording, Sensor, recording, unwrapped

PERIOD = 1 << 23  # microseconds, 8.39 s: the clock has 23 bits
MARKER = 240  # y of a row that is no event: 2^13 us have passed
MARKED = 1 << 13


def read_bin(file: io.BufferedReader, path: Path, sensor: Sensor | None) -> Recording:
    """x, y, and 24 big-endian bits: the polarity and the time."""
    rows, cut = records(file, path, ("u1", 5))
    rows = rows.reshape(-1, 5)
    x, y, high, middle, low = rows.T
    t, wraps = unwrapped((high & 0x7F).astype(np.int64) << 16 | middle.astype(np.int64) << 8 | low, PERIOD)
    markers = y == MARKER
    overflow = int(np.count_nonzero(markers))
    if overflow:
        t += np.cumsum(markers) * MARKED
        t, x, y, high = t[~markers], x[~markers], y[~markers], high[~markers]
    return recording(t, x, y, high >> 7, where=path, sensor=sensor, cut_bytes=cut, overflow=overflow, wraps=wraps)


def write_bin(path: Path, events: Recording) -> None:
    """Write 5-byte events; `UserError` where they cannot hold them."""
    if len(events):
        if events.x.max() > 255 or events.y.max() > 255 or (events.y == MARKER).any():
            raise UserError(f"{path}: .bin holds x and y up to 255, and no y of {MARKER} (.dat does)")
        if not 0 <= events.t[0] < PERIOD or np.diff(events.t).max(initial=0) > PERIOD // 2:
            raise UserError(f"{path}: .bin holds times that begin below 8.39 s, and pauses up to 4.19 s")
    rows = np.empty((len(events), 5), np.uint8)
    rows[:, 0], rows[:, 1] = events.x, events.y
    rows[:, 2] = events.p << 7 | (events.t >> 16 & 0x7F).astype(np.uint8)
    rows[:, 3], rows[:, 4] = events.t >> 8 & 0xFF, events.t & 0xFF
    write_bytes(path, rows.tobytes())
