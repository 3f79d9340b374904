"""Numbers from files of any framework: .npz, .npy, .csv. Nothing in a file is ever executed or decided here."""

from __future__ import annotations

import csv
import dataclasses
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError, did_you_mean
from lrensemble.opening import check_array, check_cells, check_packed, clear_read_errors, open_regular, read_text

MOST_COLUMNS = 25_000  # of it
ARRAYS = "save it as .npy or .npz"
TEXT = (".csv", ".tsv", ".txt")
SUFFIXES = (".npz", ".npy", *TEXT)
DELIMITERS = "\t;|, "  # the first that fits: `0.5, 0.5` has two columns
NUMBER = re.compile(r"\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)\s*", re.IGNORECASE | re.ASCII)
COMMA = re.compile(r"\s*[+-]?\d*,\d+(e[+-]?\d+)?\s*", re.IGNORECASE | re.ASCII)
PERCENT = re.compile(r"\s*[\d.,]+\s*%\s*", re.ASCII)
THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*", re.ASCII)
MISSING = "Fill it in, or leave the row out of labels and predictions"
COUNT = re.compile(r"\s*\d{1,9}(\.0)?\s*", re.ASCII)


@dataclass(frozen=True)
class Table:
    """What is in a file, as rows and columns.

    Attributes
    ----------
    where : for messages: the file, and its array
    values : (N, C) numbers; NaN in columns of text
    texts : the columns that are text, by their index
    names : of the columns, from the header; None without one
    first : the cells of the first row, where that may be a header as well: column numbers, or text like all others
    """

    where: str
    values: Array
    texts: dict[int, list[str]] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    first: tuple[str, ...] | None = None

    def headed(self) -> Table:
        """The same with its first row taken as a header."""
        texts = {column: cells[1:] for column, cells in self.texts.items()}
        return dataclasses.replace(self, values=self.values[1:], texts=texts, names=self.first, first=None)


def read_table(path: Path, key: str) -> Table:
    """The table in `path`, for ``.npz`` the array under `key`.

    Raises
    ------
    UserError
        Missing, cut off, pickled, no such key, text where a number is needed (with its line).
    """
    if path.suffix.lower() in TEXT:
        _check_file(path)
        with clear_read_errors(path):
            return _read_text(path)
    where = f"{path} ({key})" if path.suffix.lower() == ".npz" else str(path)
    array = read_numbers(path, key)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.size:
        raise UserError(f"{where}: shape {array.shape} does not fit: (rows, classes) or (rows,) are needed")
    if array.dtype.kind in "US":
        columns = {j: [str(cell) for cell in array[:, j].astype(str)] for j in range(array.shape[1])}
        return Table(where, np.full(array.shape, np.nan), columns)
    if array.dtype.kind not in "fiub":
        raise UserError(f"{where}: {array.dtype} is not a type of numbers")
    return Table(where, array)


def read_numbers(path: Path, key: str | None = None) -> Array:
    """The array in an ``.npy``, or in an ``.npz`` under `key` (None: the only one), whatever its shape and type."""
    _check_file(path)
    with clear_read_errors(path):
        if path.suffix.lower() == ".npz":
            return _read_npz(path, key)
        with open_regular(path) as file:
            return _npy(file, str(path), path.stat().st_size)


def _check_file(path: Path) -> None:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise UserError(f"{path} {what}: a file with predictions or labels is needed")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: files of type {suffix or '(none)'} are not read: {did_you_mean(suffix, SUFFIXES)}")


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
    except (EOFError, TypeError) as error:
        raise UserError(f"{where}: cut off or damaged ({error})") from None
    return array


def _read_text(path: Path) -> Table:
    text = read_text(path, ARRAYS).replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise UserError(f"{path} is empty" if not text.strip() else f"{path}: there is nothing below the header")
    delimiter = _delimiter(path, lines[0], lines[-1])
    check_cells(path, text.count(delimiter) + len(lines), ARRAYS)
    rows = _rows(path, text, delimiter)
    comment = None
    while rows and rows[0][1][0].startswith("#"):  # "# x,y" of np.savetxt, or remarks
        comment = [rows[0][1][0].lstrip("# "), *rows[0][1][1:]]
        rows = rows[1:]
    rows = [(number, row) for number, row in rows if not row[0].startswith("#")]
    if not rows:
        raise UserError(f"{path}: there is nothing below the header")
    header = comment if comment and len(comment) == len(rows[0][1]) else None
    return _table(path, header, rows, delimiter)


def _table(path: Path, header: list[str] | None, rows: list[tuple[int, list[str]]], delimiter: str) -> Table:
    if (
        len(rows) > 1
        and all(row[-1] == "" for _, row in rows[1:])
        and len(rows[-1][1]) > 1
        and (rows[0][1][len(rows[-1][1]) - 1 :] in ([], [""]))
    ):
        width = len(rows[-1][1]) - 1  # a delimiter at the end of every line
        rows = [(number, row[:width] if row[width:] in ([], [""]) else row) for number, row in rows]
    if (
        header is None
        and delimiter != ","  # `y` above `1,0` may be a decimal comma
        and len({len(row) for _, row in rows[1:]}) == 1
        and (len(rows[0][1]) == len(rows[1][1]) - 1 and not all(map(NUMBER.fullmatch, rows[0][1])))
    ):
        rows[0] = (rows[0][0], ["", *rows[0][1]])  # R's header has no name for the names of rows
    width = len(header or rows[0][1])
    if width > MOST_COLUMNS:
        raise UserError(
            f"{path}: {width:,} columns of text, at most {MOST_COLUMNS:,} are read: save it as .npy or .npz"
        )
    for number, row in rows:
        if len(row) != width:
            raise UserError(f"{path}, line {number}: {len(row)} columns, the first line has {width}")
    start = 0 if header or len(rows) == 1 else 1
    commas = any(COMMA.fullmatch(cell) for _, row in rows[start:][:1000] for cell in row)
    if commas:
        rows = _decimal_points(path, rows)
    if percent := next((cell for cell in rows[-1][1] if PERCENT.fullmatch(cell)), None):
        raise UserError(f"{path}, line {rows[-1][0]}: {percent!r}: write the numbers without %")
    texts = [j for j in range(width) if _is_text(rows[start][1][j]) and _is_text(rows[-1][1][j])]
    numbers = [j for j in range(width) if j not in set(texts)]
    kinds = {_kind(rows[0][1][j]) for j in numbers}
    if header is None and "text" in kinds and "fraction" not in kinds:
        header, rows = rows[0][1], rows[1:]
    if not rows or (len(rows) == 1 and not numbers and header is None):
        raise UserError(f"{path}: there is nothing below the header")
    values = np.full((len(rows), width), np.nan)
    for i, (number, row) in enumerate(rows):
        cells = [row[j] for j in numbers] if texts else row
        try:
            values[i, numbers] = cells
            wrong_type = "_" in "".join(cells)  # float() reads 1_000
        except ValueError:
            wrong_type = True
        if wrong_type and (wrong := [cell for cell in cells if not NUMBER.fullmatch(cell)]):
            cell = wrong[0].strip()
            fix = f" (a missing value? {MISSING})" if cell.upper() in ("", "NA", "NULL", "NONE", "<NA>") else ""
            raise UserError(f"{path}, line {number}: {cell!r} is not a number{fix}")
    first = rows[0][1]
    if header is None and delimiter == "," and not texts and "." not in "".join(first) and _split_decimals(values):
        raise UserError(f"{path}, line {rows[0][0]}: {','.join(first[:2])!r}: decimal commas? Write points")
    return Table(
        str(path),
        values,
        {j: [row[j].strip() for _, row in rows] for j in texts},
        tuple(cell.strip() for cell in header) if header else None,
        tuple(cell.strip() for cell in first) if header is None and _like_header(first, numbers) else None,
    )


def _delimiter(path: Path, first: str, last: str) -> str:
    """What parts most of the last line into numbers; else the first that is in it and in the first line."""
    found = [d for d in DELIMITERS if d in last]
    for delimiter in [d for d in found if d in first] + found:
        cells = [cell.strip(' "') for cell in last.split(delimiter)] if delimiter != "," else next(csv.reader([last]))
        if 2 * sum(bool(NUMBER.fullmatch(cell) or COMMA.fullmatch(cell)) for cell in cells) > len(cells):
            return delimiter
    if not found and (other := re.fullmatch(r"[\d.]+([^\w.+\s-])[\d.e+-]+(\1[\d.e+-]+)*", last, re.ASCII)):
        raise UserError(f"{path}: numbers parted by {other[1]!r} are not read: write commas, semicolons or tabs")
    return next((d for d in found if d != " "), ",")  # names of classes may be two words


def _like_header(cells: list[str], numbers: list[int]) -> bool:
    """Whether a first row can be pandas' header of column numbers, or of class numbers; or all there is is text."""
    kept = [cells[j] for j in numbers]
    if not all(COUNT.fullmatch(cell) for cell in kept):
        return False
    found = sorted(float(cell) for cell in kept)
    counts = [[*range(start, start + len(found))] for start in (0, 1)[: len(found)]]  # one column is called 0
    return not numbers or found in counts or (len(found) > 2 and len(set(found)) == len(found))


def _decimal_points(path: Path, rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    commas = [(number, cell) for number, row in rows for cell in row if COMMA.fullmatch(cell)]
    if all(THOUSANDS.fullmatch(cell) for _, cell in commas):
        number, cell = commas[0]
        raise UserError(
            f"{path}, line {number}: {cell!r} has a comma of decimals or of thousands: write a point or none"
        )
    return [
        (number, [cell.replace(",", ".") if COMMA.fullmatch(cell) else cell for cell in row]) for number, row in rows
    ]


def _is_text(cell: str) -> bool:
    return bool(cell.strip()) and not NUMBER.fullmatch(cell)


def _split_decimals(values: Array) -> bool:
    """Whether 0,7,0,3 was 0.7 and 0.3: all whole, in pairs of 0 or 1 and digits."""
    with np.errstate(invalid="ignore"):
        whole = values.shape[1] % 2 == 0 and bool((np.mod(values, 1) == 0).all())
    return whole and bool((values[:, ::2] <= 1).all() and (values >= 0).all() and (values[:, 1::2] > 1).any())


def _kind(cell: str) -> str:
    return "count" if COUNT.fullmatch(cell) else "fraction" if NUMBER.fullmatch(cell) else "text"


def _rows(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """The cells of all lines that are not blank, with their numbers; `""` is a missing value, no blank line."""
    lines = [line if line.strip(" ") else "" for line in text.splitlines()]
    if delimiter == " ":
        lines = [line.strip() for line in _named_index(lines)]
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from None
    kept = [(number, row) for number, row in rows if row]
    if kept and all(len(row) == 1 for _, row in kept):
        inside = [number for number, row in rows if not row and kept[0][0] < number < kept[-1][0]]
        if inside:
            raise UserError(f"{path}, line {inside[0]} is blank: a missing value? {MISSING}")
    return kept


def _named_index(lines: list[str]) -> list[str]:
    """Lines parted by spaces, with a name for pandas' index: its header begins with a space."""
    filled = [i for i, line in enumerate(lines) if line]
    first, last = lines[filled[0]], lines[filled[-1]]
    if first.startswith(" ") and len(first.split()) + 1 == len(last.split()):
        lines[filled[0]] = f'""{first}'
    return lines
