"""Rows of texts from files: JSON lines, or CSV and TSV with the names of their columns in the first line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lrensemble.errors import UserError, did_you_mean
from lrensemble.opening import check_cells, read_text
from lrensemble.tasks.splits import find_splits

T = TypeVar("T")
SUFFIXES = (".jsonl", ".csv", ".tsv")


@dataclass(frozen=True)
class TextRow:
    """What one line of a file says, and where it stands."""

    values: Mapping[str, Any]
    where: str

    def __getitem__(self, column: str) -> Any:
        if column not in self.values:
            raise UserError(f"{self.where}: no {column!r}: {did_you_mean(column, self.values)}")
        return self.values[column]

    def text(self, column: str) -> str:
        """A text that is not empty."""
        value = self[column]
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{self.where}: {column} is {value!r:.60}: a text is needed")
        return value


def read_splits(root: Path | None, name: str, val: Path | None, test: Path | None) -> dict[str, list[TextRow]]:
    """The rows of the splits that there are: of a file (train) or a folder of one a split, and of files beside it.

    Raises
    ------
    UserError
        No such file, several for one split, lines that are no rows.
    """
    if root is None:
        raise UserError(f"data set {name!r} needs data.root=FILE or FOLDER")
    root = root.expanduser()
    paths = {"train": root}
    if root.is_dir():
        files = [path for path in sorted(root.iterdir()) if path.suffix.lower() in SUFFIXES]
        stems, _ = find_splits(sorted({path.stem for path in files}), str(root))
        named = {split: [path for path in files if path.stem == stem] for split, stem in stems.items()}
        if twice := next((split for split, same in named.items() if len(same) > 1), None):
            both = " and ".join(path.name for path in named[twice])
            raise UserError(f"{root}: {both} could both be the {twice} split: rename or remove one")
        paths = {split: same[0] for split, same in named.items()}
        if "train" not in paths:
            raise UserError(f"data.root = {root}: there is no train.jsonl, .csv or .tsv: give the file itself")
    for split, path in (("val", val), ("test", test)):
        if path is not None:
            if split in paths:
                raise UserError(f"data.{split} = {path}: {root} has a {split} split of its own: leave one of them out")
            paths[split] = path.expanduser()
    return {split: read_rows(path) for split, path in paths.items()}


def read_rows(path: Path) -> list[TextRow]:
    """All rows of a file; `UserError` for what is none."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: texts are read from {', '.join(SUFFIXES)}")
    text = read_text(path, "divide it into several")
    rows = [TextRow(values, where) for where, values in (_json if suffix == ".jsonl" else _table)(path, text)]
    if not rows:
        raise UserError(f"{path}: there are no rows")
    return rows


def parsed(
    found: Mapping[str, Sequence[TextRow]], parse: Callable[[TextRow], T], skip_broken: bool
) -> tuple[dict[str, list[T]], list[str]]:
    """What `parse` makes of the rows of every split; rows that it refuses are left out, and counted, if so wanted."""
    kept: dict[str, list[T]] = {split: [] for split in found}
    notes = []
    for split, rows in found.items():
        first = ""
        for row in rows:
            try:
                kept[split].append(parse(row))
            except UserError as error:
                if not skip_broken:
                    raise UserError(f"{error}; data.skip_broken=true leaves such rows out") from None
                first = first or str(error)
        if first:
            notes.append(f"{split}: {len(rows) - len(kept[split]):,} of {len(rows):,} rows are left out: {first}, ...")
        if not kept[split]:
            raise UserError(f"{split}: no row is whole: {first}")
    return kept, notes


def _json(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: no JSON ({error})") from None
        if not isinstance(values, dict):
            raise UserError(f'{where}: {line!r:.60}: an object with names is needed, {{"text": ..., "label": ...}}')
        yield where, values


def _table(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    first = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    check_cells(path, text.count(delimiter) + text.count("\n"), "divide it into several")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = [name.strip() for name in next(reader, [])]
        if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
            raise UserError(f"{path}: two columns are called {twice!r}: rename or remove one")
        for cells in filter(None, reader):
            where = f"{path}, line {reader.line_num}"
            if len(cells) != len(names):
                raise UserError(f"{where}: {len(cells)} columns, the first line has {len(names)}")
            yield where, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from None
