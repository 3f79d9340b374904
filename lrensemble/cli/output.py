"""Tables for people and JSON for programs. Results go to stdout, everything else to stderr.

Every text that reaches the terminal goes through here (tests/test_architecture.py), and so through `shown`: names,
reasons and errors can come from a stranger's pool.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# What a terminal obeys instead of showing it: control characters (C0 but line feed and tab, DEL, C1), characters
# without width, separators of lines, marks and overrides of direction, tags, and halves of surrogate pairs.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
LONGEST_NOTE = 10_000  # characters: an error may name what is a file long
# Of a URL (postgresql://USER:PASSWORD@HOST), or named: it may stand where nobody expects it, in a wrong option.
_PASSWORD = re.compile(r"(://[^\s/:@]*:)(\S+)@|(\b(?:ssl)?(?:password|passwd|pwd)=)[^\s&'\"]+", re.IGNORECASE)


def shown(text: str) -> str:
    """`text` with what a terminal would obey as escapes: ``\\x1b`` for ESC. No passwords."""
    text = _PASSWORD.sub(lambda match: f"{match[1] or match[3]}***{'@' if match[1] else ''}", text)
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def say(text: str = "") -> None:
    """A line of the result, on stdout."""
    print(_one(text))


def note(text: str) -> None:
    """A line for people that is no result, on stderr."""
    text = _one(text)  # all of it: half of a password is not known as one
    more = f" ... ({len(text):,} characters)" if len(text) > LONGEST_NOTE else ""
    print(text[:LONGEST_NOTE] + more, file=sys.stderr)


def _one(text: str) -> str:
    """What a name or a reason has after a line feed must not look like a line of ours."""
    return shown(text).replace("\n", "\n  ")


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


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run models package.module:callable that the files name (default: they are refused)",
    )


def print_json(data: Any) -> None:
    """One JSON document, alone on stdout; what a terminal would obey is escaped as JSON does it."""
    from lrensemble.pool.files import json_text

    print(_OBEYED.sub(lambda match: json.dumps(match[0])[1:-1], json_text(data)))


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


@contextlib.contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr for work of seconds to minutes; what it yields changes its text."""
    with console(stderr=True).status(text(what)) as status:
        yield lambda words: status.update(text(words))


MOST = 1024  # workers, threads


def whole(low: int = 1, high: int = 1_000_000) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `low` to `high`."""

    def parse(words: str) -> int:
        try:
            value = int(words)
        except ValueError:  # also of thousands of digits
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{words[:100]} is not possible: a whole number from {low:,} to {high:,} is needed"
            )
        return value

    return parse


def real(low: float, high: float) -> Callable[[str], float]:
    """The type of an option that takes a number from `low` to `high`."""

    def parse(words: str) -> float:
        try:
            value = float(words)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # NaN is nowhere
            raise argparse.ArgumentTypeError(
                f"{words[:100]} is not possible: a number from {low:,g} to {high:,g} is needed"
            )
        return value

    return parse


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def standard_error(share: float | None, n: int) -> str:
    """Standard error of an accuracy over `n` rows, in points (binomial)."""
    from lrensemble.metrics import standard_error

    return "-" if share is None else f"{100 * standard_error(share, n):.2f}"


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
