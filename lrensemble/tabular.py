"""Columns of a table: cells of text in, numbers for a network out, by rules that are learnt from the training rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.opening import check_cells, read_text

Cells = dict[str, list[str]]  # column -> a stripped text a row, "" where it is missing
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "<na>", "?"))  # in any case
MOST_CATEGORIES = 100  # of a column: more are names or remarks


@dataclass(frozen=True)
class Column:
    """How the cells of one column become features.

    Attributes
    ----------
    categories : the texts of the training rows, one feature of 0 or 1 each; none: the column is a number
    fill : in place of a missing number: the mean over the training rows. A missing or new category is 0 everywhere
    """

    name: str
    categories: tuple[str, ...] = ()
    fill: float = 0.0

    @property
    def width(self) -> int:
        """Features that it becomes."""
        return len(self.categories) or 1


def read_csv(path: Path) -> Cells:
    """The columns of a file of text in UTF-8, parted by commas, semicolons or tabs, with their names in its first line.

    Raises
    ------
    UserError
        Missing or no text, lines of another length than the first, names that are numbers or stand there twice.
    """
    text = read_text(path, "save it as .npz")
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    check_cells(path, text.count(delimiter) + text.count("\n"), "save it as .npz")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows: list[list[str]] = []
    try:
        for row in filter(None, reader):  # not the blank lines
            if rows and len(row) != len(rows[0]):
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(row)} columns, the first line has {len(rows[0])}"
                )
            rows.append(row)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from None
    if len(rows) < 2:
        raise UserError(f"{path}: names of columns and rows below them are needed, it has {len(rows)} lines")
    names = [name.strip() for name in rows[0]]
    if all(_number(name) is not None for name in names):
        raise UserError(f"{path}: its first line must name the columns, it is {', '.join(names[:3])}, ...")
    if twice := next((name for i, name in enumerate(names) if name and name in names[:i]), None):
        raise UserError(f"{path}: two columns are called {twice!r}: rename one")
    return {
        name: [cell(raw) for raw in cells]
        for name, cells in zip(names, zip(*rows[1:], strict=True), strict=True)
        if name  # pandas' index has none
    }


def fit_columns(cells: Cells, where: object) -> tuple[Column, ...]:
    """What the columns of the training rows are: numbers, or categories. Columns without any value are left out.

    Raises
    ------
    UserError
        Decimal commas, texts that are no categories as there are too many.
    """
    columns = []
    for name, column in cells.items():
        known = [text for text in column if text]
        numbers = [number for cell in known if (number := _number(cell)) is not None]
        if known and len(numbers) == len(known):
            columns.append(Column(name, fill=float(np.mean(numbers))))
        elif known:
            commas = [cell for cell in known if _number(cell.replace(",", ".", 1)) is not None]
            if len(commas) == len(known):
                raise UserError(f"{where}: column {name!r} has numbers such as {commas[0]!r}: write decimal points")
            categories = tuple(sorted(set(known)))
            most = min(MOST_CATEGORIES, len(known) // 2)
            if len(categories) > most:
                raise UserError(
                    f"{where}: column {name!r} has {len(categories):,} different texts ({categories[0]!r}, ...), at "
                    f"most {most} are categories: data.drop=[{name}] leaves it out"
                )
            columns.append(Column(name, categories))
    if not columns:
        raise UserError(f"{where}: there is no column of features beside the target")
    return tuple(columns)


def encode(cells: Mapping[str, Sequence[str]], columns: Sequence[Column], where: object) -> NDArray[np.float32]:
    """Features (rows, features) of all rows; columns that are not in `columns` are not looked at.

    Raises
    ------
    UserError
        A column is missing, or holds a text where numbers are needed, or a number that float32 cannot hold.
    """
    features: list[NDArray[Any]] = []
    for column in columns:
        if column.name not in cells:
            raise UserError(f"{where}: no column {column.name!r}: {did_you_mean(column.name, cells)}")
        texts = cells[column.name]
        if column.categories:
            index = {category: i for i, category in enumerate(column.categories)}
            found = np.array([index.get(text, -1) for text in texts])
            features.append((found[:, None] == np.arange(len(index))).astype(np.float32))
            continue
        numbers = [_number(text) if text else column.fill for text in texts]
        with np.errstate(over="ignore"):
            values = np.array([np.nan if number is None else number for number in numbers]).astype(np.float32)
        if not np.isfinite(values).all():
            wrong = texts[int(np.argmax(~np.isfinite(values)))]
            raise UserError(f"{where}: column {column.name!r} holds {wrong!r}: a number is needed, as in train")
        features.append(values[:, None])
    return np.concatenate(features, 1)


def cell(raw: str) -> str:
    """The text of a cell: stripped, and "" where the value is missing."""
    return "" if (text := raw.strip()).lower() in MISSING else text


def _number(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None  # float() reads 1_000
    except ValueError:
        return None
