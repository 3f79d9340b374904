"""How objects show themselves in a notebook: small tables and curves as HTML, and tables of pandas.

What comes from files is text here, never markup: pools can be a stranger's.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrensemble.installing import needed
from lrensemble.terminal import shown

if TYPE_CHECKING:
    import pandas

WIDTH, HEIGHT = 420, 110  # of a curve, in pixels


def escaped(words: object) -> str:
    """As the text of an element or an attribute."""
    return html.escape(shown(str(words)))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns whose name starts with ``<`` are text, to the left; the others numbers. None is a dash."""

    def cell(tag: str, column: str, words: object) -> str:
        side = "left" if column.startswith("<") else "right"
        return f'<{tag} style="text-align:{side}">{escaped("–" if words is None else words)}</{tag}>'  # noqa: RUF001

    head = "".join(cell("th", column, column.removeprefix("<")) for column in columns)
    body = "".join(
        f"<tr>{''.join(cell('td', column, words) for column, words in zip(columns, row, strict=True))}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def curve(ys: Sequence[float], name: str, *, zero: bool = False) -> str:
    """A line over evenly spaced places, from their least (or 0) to their largest value; `name` says what it is."""
    low, high = 0.0 if zero else min(ys), max(ys)
    across = max(1, len(ys) - 1)
    points = " ".join(
        f"{WIDTH * i / across:.1f},{HEIGHT * (1 - (y - low) / ((high - low) or 1.0)):.1f}" for i, y in enumerate(ys)
    )
    return (
        f'<svg role="img" aria-label="{escaped(name)}" viewBox="-2 -4 {WIDTH + 4} {HEIGHT + 8}" width="{WIDTH}" '
        f'height="{HEIGHT}" style="max-width:100%"><polyline points="{points}" fill="none" stroke="currentColor" '
        'stroke-width="1.6" stroke-linejoin="round"/></svg>'
    )


def block(title: str, *parts: str) -> str:
    """A title, and below it what is markup already."""
    return f"<div><p><strong>{escaped(title)}</strong></p>{''.join(parts)}</div>"


def line(words: str) -> str:
    return f"<p>{escaped(words)}</p>"


def frame(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """A data frame with the keys as columns; `UserError` where pandas is missing."""
    with needed("to_pandas needs pandas", "pandas"):
        import pandas
    return pandas.DataFrame(list(rows))
