"""Tables for people and JSON for programs. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.status import Status


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=["table", "json"], default="table", help="default: table")


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run models package.module:callable that the files name (default: they are refused)",
    )


def print_json(data: Any) -> None:
    """One JSON document, alone on stdout."""
    from lrensemble.pool.files import json_text

    print(json_text(data))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> None:
    """A table on stdout; columns whose name starts with ``<`` are text (left-aligned), the others numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A pipe has no width: do not cut there.
    console = Console(width=None if sys.stdout.isatty() else 220, highlight=False)
    table = Table(
        title=Text(title),
        caption=Text(caption) if caption else None,
        title_justify="left",
        caption_justify="left",
    )
    for name in columns:
        text = name.startswith("<")
        table.add_column(
            Text(name.removeprefix("<")),
            justify="left" if text else "right",
            overflow="fold" if text else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def note(text: str) -> None:
    """A line for people that is no result."""
    print(text, file=sys.stderr)


@contextlib.contextmanager
def working(text: str) -> Iterator[Status]:
    """A spinner on stderr for work of seconds to minutes; ``update`` changes its text."""
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield status


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def standard_error(share: float | None, n: int) -> str:
    """Standard error of an accuracy over `n` rows, in points (binomial)."""
    from lrensemble.metrics import standard_error

    return "-" if share is None else f"{100 * standard_error(share, n):.2f}"


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
