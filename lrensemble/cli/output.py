"""Answers and tables for people, JSON and CSV for programs. Results go to stdout, everything else to stderr.

Every text that reaches the terminal goes through here (tests/test_architecture.py), and so through `shown`: names,
reasons and errors can come from a stranger's pool.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import json
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lrensemble import terminal
from lrensemble.cli.table import TableColumn, blocks_of, columns_of, split_constant, wrap
from lrensemble.errors import UserError
from lrensemble.terminal import OBEYED, one_line
from lrensemble.terminal import shown as shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from lrensemble.training.executor import Cluster

N = TypeVar("N", int, float)


@dataclasses.dataclass
class Printing:
    """How the command that runs is to print."""

    csv: bool = False
    verbose: bool = False
    quiet: bool = False
    printed: bool = False  # something, so that a table stands apart; of csv: the one table


view = Printing()


def configure(args: argparse.Namespace) -> None:
    """Print as the options of `add_format` say."""
    global view
    view = Printing(
        getattr(args, "format", "") == "csv", getattr(args, "verbose", False), getattr(args, "quiet", False)
    )


def terminal_width() -> int | None:
    """Cells of a line on stdout; None where it is no terminal, so that nothing is wrapped or left out."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def say(text: str = "") -> None:
    """A line of the answer, on stdout."""
    if not view.csv:
        view.printed = True
        _print_wrapped(text, terminal_width())


def say_more(text: str) -> None:
    """A line that -v adds."""
    if view.verbose:
        say(text)


def say_command(*words: object, then: str = "") -> None:
    """The command to give next, quoted for the shell, and what to say of it."""
    say_next(shlex.join(map(str, words)) + then)


def say_next(text: str) -> None:
    """What to do next, below the answer; a command is not wrapped, so that it can be copied."""
    if not (view.csv or view.quiet):
        print(f"Next: {one_line(text)}")


def note(text: str) -> None:
    """A line for people that is no result, on stderr."""
    if not view.quiet:
        terminal.note(text)


def _print_wrapped(text: str, width: int | None) -> None:
    if text:
        print(*(line for part in one_line(text).split("\n") for line in wrap(part, width, "  ")), sep="\n")


def _print_csv(columns: Sequence[TableColumn]) -> None:
    """Cells as in the table; what is not known is empty."""
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow([column.name for column in columns])
    lines.writerows(
        ["" if cell == "-" else cell for cell in row] for row in zip(*(c.cells for c in columns), strict=True)
    )


def console(**options: Any) -> Console:
    """A console of rich that takes texts as they are: no markup, no emoji; silent with -q."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, quiet=view.quiet, **options)


def text(words: str) -> Text:
    """For rich, which reads markup in a plain string."""
    from rich.text import Text

    return Text(shown(words))


def add_format(parser: argparse.ArgumentParser) -> None:
    """``--format``, and how much is said."""
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table", help="default: table")
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument("-v", "--verbose", action="store_true", help="everything: all columns, tables and reasons")
    how_much.add_argument("-q", "--quiet", action="store_true", help="the answer alone: no table, notes or progress")


def add_overrides(parser: argparse._ActionsContainer) -> None:
    """``KEY.SUB=VALUE ...``."""
    parser.add_argument("overrides", metavar="KEY.SUB=VALUE", nargs="*", default=[], help="change the configuration")


def add_workers(parser: argparse._ActionsContainer, threads: int | None = None) -> None:
    """``--workers`` and ``--threads``, whose default is `threads`; where they are, `cluster` reads."""
    parser.add_argument(
        "--workers", metavar="N", type=whole(1, MOST), help="runs at a time (default: cores, or one per GPU)"
    )
    default = threads or "cores / workers"
    parser.add_argument(
        "--threads", metavar="N", type=whole(1, MOST), default=threads, help=f"of each worker (default: {default})"
    )

    parser.add_argument("--on", metavar="WHERE", help="ray (this machine), ray://HOST:PORT: docs/cluster.md")
    parser.add_argument(
        "--resource",
        metavar="NAME=AMOUNT",
        action="append",
        default=[],
        help="of the cluster, that every run needs beside its CPUs and GPU; may be repeated",
    )


def cluster(args: argparse.Namespace) -> Cluster | None:
    """What ``--on`` names; None: this machine."""
    if args.on is None:
        if args.resource:
            raise UserError("--resource is of a cluster: give --on too")
        return None
    from lrensemble.training.on_ray import Ray

    return Ray.parse(args.on, args.resource)


def add_track(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--track",
        metavar="KIND:DIR",
        action="append",
        default=[],
        help="write histories while members train: tensorboard:DIR, wandb:DIR (offline) or mlflow:DIR; nothing is sent",
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
    """A table on stdout; columns whose name starts with ``<`` are text (left-aligned), the others numbers.

    What matters comes first: columns that a terminal has no room for are named below the table, and drawn with -v.
    With ``--format csv`` the first table of a command is all that it prints.
    """
    drawn = columns_of(columns, [[shown(cell) for cell in row] for row in rows])
    if view.csv:
        if not view.printed:
            _print_csv(drawn)
        view.printed = True
        return
    if view.quiet or not drawn:
        return
    width = terminal_width()
    drawn, same = split_constant(drawn)
    if view.printed:
        print()
    view.printed = True
    _print_wrapped(title, width)
    _print_wrapped(f"In every row: {', '.join(same)}" if same else "", width)
    blocks = blocks_of(drawn, width)
    for i, block in enumerate(blocks if view.verbose else blocks[:1]):
        print(*([""] if i else []), *block.lines, sep="\n")
    if not view.verbose and (hidden := [column.name for column in drawn if column not in blocks[0].columns]):
        _print_wrapped(f"-v shows: {', '.join(hidden)}", width)
    _print_wrapped(caption, width)


def print_rows(title: str, rows: Sequence[Mapping[str, str]], caption: str = "") -> None:
    """A table whose rows say the names of their columns, as `print_table` takes them."""
    print_table(title, [*rows[0]] if rows else [""], ([*row.values()] for row in rows), caption)


def print_text(text: str) -> None:
    """A document for a program, as it is."""
    print(text)


@contextlib.contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr for work of seconds to minutes; what it yields changes its text."""
    with console(stderr=True).status(text(what)) as status:
        yield lambda words: status.update(text(words))


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, for work that ends with what it has; pressed again it stops the command."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT)

    def press(number: int, frame: object) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)
        note("stopping with the best so far; Ctrl-C again gives up")

    if before is not None and before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


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
