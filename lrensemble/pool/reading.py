"""Arrays of numbers from files of any framework: .npz, .npy, .csv. Nothing in a file is ever executed."""

from __future__ import annotations

import csv
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.opening import check_array, check_packed, open_regular

TEXT = (".csv", ".tsv", ".txt")
SUFFIXES = (".npz", ".npy", *TEXT)
DELIMITERS = "\t;, "  # the first that is in the last line, which is numbers: `0.5, 0.5` has two columns
Array = NDArray[Any]


def read_numbers(
    path: Path, key: str | None = None, *, rows: int | None = None, class_names: tuple[str, ...] = ()
) -> Array:
    """Return the array in `path`, for ``.npz`` the one under `key`.

    Parameters
    ----------
    rows : int, optional
        As many are expected: a CSV with one more, whose first line is 0, 1, 2, ..., has a header of numbers.
    class_names : tuple of str, optional
        A CSV whose header has exactly these names must have them in this order.

    Raises
    ------
    UserError
        Missing, cut off, pickled, no such key, text where a number is needed (with its line).
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {what}: a file with predictions or labels is needed")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: files of type {suffix or '(none)'} are not read: {did_you_mean(suffix, SUFFIXES)}")
    try:
        if suffix in TEXT:
            table = _read_table(path, class_names)
            numbered = len(table) - 1 == rows and (table[0] == np.arange(table[0].size)).all()
            return table[1:] if numbered else table
        if suffix == ".npz":
            return _read_npz(path, key)
        with open_regular(path) as file:
            return _npy(file, str(path), path.stat().st_size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read_npz(path: Path, key: str | None) -> Array:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            if key is None and len(names) == 1:
                key = names[0]
            if key not in names:
                wanted = "one array" if key is None else f"an array {key!r}"
                raise UserError(f"{path}: {wanted} is needed, {did_you_mean(key, names)}")
            entry = archive.getinfo(f"{key}.npy")
            check_packed(f"{path} ({key})", entry.file_size, entry.compress_size)
            with archive.open(entry) as file:
                return _npy(file, f"{path} ({key})", entry.file_size)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise UserError(f"{path}: cut off or damaged ({error})") from None


def _npy(file: Any, where: str, size: int) -> Array:
    try:
        check_array(file, size)
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        if "pickled" in str(error):
            raise UserError(
                f"{where}: it holds pickled Python objects, which are never loaded: save plain numbers, "
                "for example np.save(path, np.asarray(x, dtype='float32'))"
            ) from None
        raise UserError(f"{where}: cut off, or no array of NumPy ({str(error).splitlines()[0]})") from None
    except (EOFError, MemoryError, TypeError) as error:
        raise UserError(f"{where}: cut off or damaged ({error})") from None
    return array


def _read_table(path: Path, class_names: tuple[str, ...]) -> Array:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no text in UTF-8 ({error.reason} at byte {error.start:,})") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path} is empty")
    delimiter = next((d for d in DELIMITERS if d in lines[-1]), ",")
    rows = [(number, row) for number, row in _rows(path, text, delimiter) if any(cell.strip() for cell in row)]
    header = [cell.strip() for cell in rows[0][1]]
    start = 0
    if not all(map(_is_number, header)):
        rows = rows[1:]
        if header[0] == "" and len(header) > 1:  # pandas writes its index as a first column without a name
            header, start = header[1:], 1
        if sorted(header) == sorted(class_names) and tuple(header) != class_names:
            raise UserError(f"{path}: its columns are {', '.join(header)}, the pool's are {', '.join(class_names)}")
    if not rows:
        raise UserError(f"{path}: there is nothing below the header")
    values = np.empty((len(rows), len(header)))
    for i, (number, row) in enumerate(rows):
        cells = row[start:]
        if len(cells) != len(header):
            raise UserError(f"{path}, line {number}: {len(cells)} columns, the first line has {len(header)}")
        try:
            values[i] = cells
        except ValueError:
            wrong = next(cell.strip() for cell in cells if not _is_number(cell))
            raise UserError(f"{path}, line {number}: {wrong!r} is not a number") from None
    return values[:, 0] if values.shape[1] == 1 else values


def _rows(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
