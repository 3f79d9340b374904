"""Rows for a team, from files: tables of text by their columns, recordings of event cameras, and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.export.card import Preprocessing
from lrensemble.pool.reading import TEXT, read_numbers
from lrensemble.tabular import cell, encode, read_csv
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
        suffix, columns = path.suffix.lower(), self.preprocessing.columns
        if suffix not in self.suffixes:
            raise UserError(f"files of type {suffix or '(none)'} are not read: {did_you_mean(suffix, self.suffixes)}")
        if frames := self.preprocessing.frames if suffix not in ARRAYS else None:
            events = BinnedEvents([read_events(path)], frames.window, frames.bin_us)
            return events.fixed(frames.bins, frames.crops).astype(np.float32)
        if suffix in TEXT:
            if not columns:
                raise UserError(f"{self._unnamed}: save them as .npy")
            return encode(read_csv(path), columns, "it")
        return self._checked(read_numbers(path, self.key))

    def rows(self, found: Sequence[Any]) -> NDArray[np.float32]:
        """The same of lists of numbers, or of objects with the columns' names, one row each."""
        columns = self.preprocessing.columns
        if not any(isinstance(row, Mapping) for row in found):
            return self._checked(numbers(found))
        if not columns:
            raise UserError(f"{self._unnamed}: send lists of numbers")
        cells: dict[str, list[str]] = {column.name: [] for column in columns}
        for number, row in enumerate(found):
            if not isinstance(row, Mapping):
                raise UserError(
                    f"row {number} is {row!r:.60}: an object with the columns' names is needed, as the others"
                )
            for name, texts in cells.items():
                if name not in row:
                    raise UserError(f"row {number}: no column {name!r}: {did_you_mean(name, row)}")
                texts.append(cell("" if row[name] is None else str(row[name])))
        return encode(cells, columns, "rows")

    @property
    def _unnamed(self) -> str:
        return f"which columns the team's rows of shape {self.preprocessing.input_shape} have is not known"

    def _checked(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        shape = self.preprocessing.input_shape
        if rows.shape == shape:
            rows = rows[None]
        if rows.shape[1:] != shape or rows.dtype.kind not in "fiub":
            wanted = ", ".join(map(str, ("rows", *shape)))
            raise UserError(f"an array of {rows.dtype} and shape {rows.shape}: numbers ({wanted}) are needed")
        if not np.isfinite(rows).all():
            raise UserError(f"row {int(np.argmax(~np.isfinite(rows).reshape(len(rows), -1).all(1)))} is not finite")
        return rows.astype(np.float32)


def numbers(found: Sequence[Any]) -> NDArray[Any]:
    """Nested lists as an array; `UserError` where they are none of numbers."""
    try:
        array = np.array(found)
    except (ValueError, OverflowError):
        array = np.array(None)
    if array.dtype.kind not in "fiu":
        raise UserError("rows must be lists of numbers, all of the same lengths")
    return array
