"""Rows for a team, from files: tables of text by their columns, recordings of event cameras, and arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.export.card import Preprocessing
from lrensemble.pool.reading import TEXT, read_numbers
from lrensemble.tabular import encode, read_csv
from lrensemble.tasks.events import READERS, read_events
from lrensemble.tasks.events.binning import BinnedEvents

ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class RowReader:
    """How files become rows, float32, in the unit that the team was trained in.

    Attributes
    ----------
    key : of the array in an .npz
    """

    preprocessing: Preprocessing
    key: str | None = None

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of files that are read; an array is rows as they are, and no recording."""
        more = (suffix for suffix in READERS if suffix not in ARRAYS) if self.preprocessing.frames else TEXT
        return (*more, *ARRAYS)

    def find(self, folder: Path) -> list[Path]:
        """The files in a folder that can be read."""
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in self.suffixes)

    def read(self, path: Path) -> NDArray[np.float32]:
        """All rows in a file: (n, *input_shape); `UserError` says what is wrong, without the file's name."""
        if not path.exists():
            raise UserError("it does not exist")
        suffix, columns, shape = path.suffix.lower(), self.preprocessing.columns, self.preprocessing.input_shape
        if suffix not in self.suffixes:
            raise UserError(f"files of type {suffix or '(none)'} are not read: {did_you_mean(suffix, self.suffixes)}")
        if frames := self.preprocessing.frames if suffix not in ARRAYS else None:
            events = BinnedEvents([read_events(path)], frames.window, frames.bin_us)
            return events.fixed(frames.bins, frames.crops).astype(np.float32)
        if suffix in TEXT:
            if not columns:
                raise UserError(f"which columns the team's rows of shape {shape} have is not known: save them as .npy")
            return encode(read_csv(path), columns, "it")
        rows = read_numbers(path, self.key)
        if rows.shape == shape:
            rows = rows[None]
        if rows.shape[1:] != shape or rows.dtype.kind not in "fiub":
            wanted = ", ".join(map(str, ("rows", *shape)))
            raise UserError(f"an array of {rows.dtype} and shape {rows.shape}: numbers ({wanted}) are needed")
        if not np.isfinite(rows).all():
            raise UserError(f"row {int(np.argmax(~np.isfinite(rows).reshape(len(rows), -1).all(1)))} is not finite")
        return rows.astype(np.float32)
