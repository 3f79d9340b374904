"""Tables for people and JSON for programs. Results go to stdout, everything else to stderr.

Every text that reaches the terminal goes through here (tests/test_architecture.py), and so through `shown`: names,
reasons and errors can come from a stranger's pool.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lrensemble.terminal import OBEYED, one_line
from lrensemble.terminal import note as note
from lrensemble.terminal import shown as shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


N = TypeVar("N", int, float)


def say(text: str = "") -> None:
    """A line of the result, on stdout."""
    print(one_line(text))


def console(**options: Any) -> Console:
    """A console of rich that takes texts as they are: no markup, no emoji."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, **options)


def text(words: str) -> Text:
    """For rich, which reads markup in a plain string."""
    from rich.text import Text

    return Text(shown(words))


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=["table", "json"], default="table", help="default: table")


def add_workers(parser: argparse.ArgumentParser, threads: int | None = None) -> None:
    """``--workers`` and ``--threads``, whose default is `threads`."""
    parser.add_argument(
        "--workers", metavar="N", type=whole(1, MOST), help="runs at a time (default: cores, or one per GPU)"
    )
    default = threads or "cores / workers"
    parser.add_argument(
        "--threads", metavar="N", type=whole(1, MOST), default=threads, help=f"of each worker (default: {default})"
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run models and metrics package.module:callable that the files name (default: they are refused)",
    )


def print_json(data: Any) -> None:
    """One JSON document, alone on stdout; what a terminal would obey is escaped as JSON does it."""
    from lrensemble.pool.files import json_text

    print(OBEYED.sub(lambda match: json.dumps(match[0])[1:-1], json_text(data)))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> None:
    """A table on stdout; columns whose name starts with ``<`` are text (left-aligned), the others numbers."""
    from rich.table import Table

    table = Table(
        title=text(title),
        caption=text(caption) if caption else None,
        title_justify="left",
        caption_justify="left",
    )
    for name in columns:
        words = name.startswith("<")
        table.add_column(
            text(name.removeprefix("<")),
            justify="left" if words else "right",
            overflow="fold" if words else "ellipsis",
        )
    for row in rows:
        table.add_row(*map(text, row))
    # A pipe has no width: do not cut there.
    console(width=None if sys.stdout.isatty() else 220).print(table)


def print_rows(title: str, rows: Sequence[Mapping[str, str]], caption: str = "") -> None:
    """A table whose rows say the names of their columns, as `print_table` takes them."""
    print_table(title, [*rows[0]] if rows else [""], ([*row.values()] for row in rows), caption)


@contextlib.contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr for work of seconds to minutes; what it yields changes its text."""
    with console(stderr=True).status(text(what)) as status:
        yield lambda words: status.update(text(words))


MOST = 1024  # workers, threads


def whole(low: int = 1, high: int = 1_000_000) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `low` to `high`."""
    return _within(int, low, high, f"a whole number from {low:,} to {high:,}")


def real(low: float, high: float) -> Callable[[str], float]:
    """The type of an option that takes a number from `low` to `high`."""
    return _within(float, low, high, f"a number from {low:,g} to {high:,g}")


def _within(kind: type[N], low: float, high: float, what: str) -> Callable[[str], N]:
    def parse(words: str) -> N:
        with contextlib.suppress(ValueError):  # also of thousands of digits
            value = kind(words)
            if low <= value <= high:  # NaN is nowhere
                return value
        raise argparse.ArgumentTypeError(f"{words[:100]} is not possible: {what} is needed")

    return parse


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def standard_error(share: float | None, n: int) -> str:
    """Standard error of an accuracy over `n` rows, in points (binomial)."""
    from lrensemble.metrics import standard_error

    return "-" if share is None else f"{100 * standard_error(share, n):.2f}"


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
