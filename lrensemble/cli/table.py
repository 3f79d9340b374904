"""Tables as lines of text that read at any width. Pure functions of texts.

What every row says goes above the table. Where it is too wide, texts are wrapped at spaces; columns that still have no
room go, from the last one on, into further blocks below, each beginning with the first column. So authors put what
matters first, and no number, id or name is ever cut or broken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

GAP = "  "
HEADING = 10  # cells that a heading may take whatever is below it
LEAST = 16  # cells of a last column of text
TEXT_SHARE = 0.4  # of the width that one column of text may take; longer texts are wrapped


class TableColumn(NamedTuple):
    """A column as it is drawn: `name` and `cells` without line feeds, `is_text` is left-aligned and may be wrapped."""

    name: str
    cells: tuple[str, ...]
    is_text: bool

    def lines(self, room: int | None) -> list[list[str]]:
        """The heading's lines and every cell's, a text's within `room`; a heading is as wide as what is below it."""
        cells = [wrap(cell, room if self.is_text else None) for cell in self.cells]
        widest = max((size(line) for lines in cells for line in lines), default=0)
        return [wrap(self.name, max(widest, HEADING)), *cells]


def size(text: str) -> int:
    """Cells that a terminal needs for it."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def wrap(text: str, width: int | None, indent: str = "") -> list[str]:
    """Lines of at most `width` cells; a longer word stays whole."""
    if width is None or size(text) <= width:
        return [text]
    words = re.split(r"(?<![=±]) (?![=±%])", text)  # n = 450 stays together
    lines = [words[0]]
    for word in words[1:]:
        if size(lines[-1]) + 1 + size(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return lines


def columns_of(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[TableColumn]:
    """Columns whose name starts with ``<`` are text, the others numbers."""
    cells = zip(*rows, strict=True) if rows else ((),) * len(names)
    return [
        TableColumn(_flat(name.removeprefix("<")), tuple(map(_flat, column)), name.startswith("<"))
        for name, column in zip(names, cells, strict=True)
    ]


def _flat(text: str) -> str:
    return re.sub(r"[\n\t]", " ", text)


def split_constant(columns: Sequence[TableColumn]) -> tuple[list[TableColumn], list[str]]:
    """The columns that differ between rows (and the first), and in words what the others say of every row."""
    if len(columns[0].cells) < 2:
        return list(columns), []
    same = [column for column in columns[1:] if len(set(column.cells)) == 1 and column.name]
    said = [f"{column.name} {column.cells[0]}" for column in same if column.cells[0] not in ("", "-")]
    return [column for column in columns if column not in same], said


class TableBlock(NamedTuple):
    """Columns that stand beside each other, and the lines of them."""

    columns: list[TableColumn]
    lines: list[str]


def blocks_of(columns: Sequence[TableColumn], width: int | None = None) -> list[TableBlock]:
    """The table in blocks that are no wider than `width` cells if that can be; without a width it is one block."""
    drawn = [column.lines(None) for column in columns]
    widths = [_widest(lines) for lines in drawn]
    if width is not None and sum(widths) + len(GAP) * (len(widths) - 1) > width:
        drawn = [column.lines(int(width * TEXT_SHARE)) for column in columns]
        widths = [_widest(lines) for lines in drawn]
        if columns[-1].is_text:  # it has what the others leave
            rest = width - sum(widths[:-1]) - len(GAP) * (len(widths) - 1)
            drawn[-1] = columns[-1].lines(max(rest, LEAST))
            widths[-1] = _widest(drawn[-1])
    if not any(column.name for column in columns):
        drawn = [lines[1:] for lines in drawn]
    groups = [[0]]
    for i in range(1, len(columns)):
        used = sum(widths[k] + len(GAP) for k in groups[-1])
        if width is not None and used + widths[i] > width and len(groups[-1]) > 1:
            groups.append([0])
        groups[-1].append(i)
    return [
        TableBlock(
            [columns[i] for i in group],
            [
                line
                for cells in zip(*(drawn[i] for i in group), strict=True)
                for line in _row(group, cells, columns, widths)
            ],
        )
        for group in groups
    ]


def _widest(cells: Sequence[Sequence[str]]) -> int:
    return max((size(line) for lines in cells for line in lines), default=0)


def _row(
    block: Sequence[int], cells: Sequence[Sequence[str]], columns: Sequence[TableColumn], widths: Sequence[int]
) -> list[str]:
    """One row of a block: as many lines as its longest cell."""
    lines = []
    for texts in zip_longest(*cells, fillvalue=""):
        parts = []
        for i, text in zip(block, texts, strict=True):
            space = " " * (widths[i] - size(text))
            parts.append(text + space if columns[i].is_text else space + text)
        lines.append(GAP.join(parts).rstrip())
    return lines
