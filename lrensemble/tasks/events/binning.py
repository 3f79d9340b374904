"""Recordings as counts of events in bins of time: sorted into bins once, crops are cut from that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import psutil

from lrensemble.array import Array
from lrensemble.errors import MachineError, UserError
from lrensemble.tasks.events.recording import Recording, Sensor

MOST_BINS = 100_000_000  # of all recordings, 1.6 GB
Window = tuple[int, int, int, int]  # left, top, width, height


def window_of(sensor: Sensor, window: int | Sequence[int] | None) -> Window:
    """A window of one side or two in the middle of the sensor, or where its corner says: [left, top, width, height].

    Raises
    ------
    UserError
        A window that is not on the sensor.
    """
    width, height = sensor
    numbers = [width, height] if window is None else [window, window] if isinstance(window, int) else list(window)
    if len(numbers) not in (2, 4) or not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
        raise UserError(f"data.window = {window}: pixels a side, [width, height] or [left, top, width, height]")
    if len(numbers) == 2:
        numbers = [(width - numbers[0]) // 2, (height - numbers[1]) // 2, *numbers]
    left, top, w, h = numbers
    if min(left, top) < 0 or min(w, h) < 1 or left + w > width or top + h > height:
        raise UserError(f"data.window = {window}: not on a sensor of {width}x{height} pixels")
    return left, top, w, h


class BinnedEvents:
    """Events of recordings inside of a window, in bins of `bin_us` microseconds from each one's first event.

    Attributes
    ----------
    lengths : (N,) int64, bins of every recording, 1 at least
    window : where on the sensor
    """

    def __init__(self, recordings: Sequence[Recording], window: Window, bin_us: int) -> None:
        left, top, width, height = self.window = window
        lengths, pixels, counts = [], [], []
        bins_so_far = 0
        for one in recordings:
            bins = (one.t - one.t[0]) // bin_us if len(one) else one.t
            lengths.append(int(bins[-1]) + 1 if len(one) else 1)
            bins_so_far += lengths[-1]
            if bins_so_far > MOST_BINS:
                raise UserError(
                    f"a recording lasts {one.duration / 1e6:,.0f} s: so many bins of {bin_us:,} us (with those "
                    f"before {bins_so_far:,}) do not fit: cut it, or larger bins (data.crop_ms, data.bins)"
                )
            x, y = one.x.astype(np.int64) - left, one.y.astype(np.int64) - top
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            pixels.append(((one.p * height + y) * width + x)[inside].astype(np.int32))
            counts.append(np.bincount(bins[inside], minlength=lengths[-1]))
        self.lengths = np.array(lengths, np.int64)
        self._pixels = np.concatenate(pixels)
        self._first = np.concatenate([[0], np.cumsum(self.lengths)])  # bin of every recording, of all bins in a row
        self._edges = np.concatenate([[0], np.cumsum(np.concatenate(counts))])  # event that every bin begins with

    def __len__(self) -> int:
        return len(self.lengths)

    def crops(self, rows: Array, starts: Array, bins: int) -> Array:
        """Counts (B, bins, 2, H, W) uint8 of some recordings, each from its own bin on; 255 is the most.

        Beyond the end of a recording nothing happens: zeros.
        """
        _, _, width, height = self.window
        cells = 2 * height * width
        result = np.zeros((len(rows), bins, cells), np.uint8)
        for crop, row, start in zip(result, rows, starts, strict=True):
            low = self._first[row] + start
            edges = self._edges[low : min(low + bins, self._first[row + 1]) + 1]
            pixels = self._pixels[edges[0] : edges[-1]]
            bin_of = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
            counts = np.bincount(bin_of * cells + pixels, minlength=crop.size)
            np.minimum(counts, 255, out=counts)
            crop[:] = counts.reshape(crop.shape)
        return result.reshape(len(rows), bins, 2, height, width)

    def fixed(self, bins: int, crops: int) -> Array:
        """The crops of an evaluation, spread evenly (one: in the middle): (N, crops * bins, 2, H, W) uint8."""
        free = np.maximum(self.lengths - bins, 0)
        shares = np.linspace(0, 1, crops) if crops > 1 else np.array([0.5])
        starts = np.floor(free[:, None] * shares).astype(np.int64)
        rows = np.arange(len(self)).repeat(crops)
        needed, free = len(rows) * bins * 2 * self.window[2] * self.window[3], psutil.virtual_memory().available
        if needed > free:
            raise MachineError(
                f"{len(rows):,} crops of {bins} frames of {self.window[2]}x{self.window[3]} pixels need "
                f"{needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} are free: data.window=50"
            )
        counts = self.crops(rows, starts.ravel(), bins)
        return counts.reshape(len(self), crops * bins, *counts.shape[2:])

    def hashed(self) -> list[Array]:
        """What tells these events from others."""
        return [self.lengths, self._pixels, self._edges]
