"""Charts as SVG that keeps its type size at every width, reads in light and dark, and prints.

The drawing stretches with the page, the text does not: marks and labels stand at percentages of the plot, and lines,
which SVG cannot place so, are in an inner picture that stretches while its strokes do not. Colours are CSS classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from markupsafe import Markup, escape

from lrensemble.report.page.templates import pictures

UNITS = 1000  # of the inner picture, both ways


class Axis(NamedTuple):
    """A range with round numbers in it; drawn from `low` to `high`, which may lie the other way round."""

    low: float
    high: float
    ticks: list[float]
    title: str = ""
    factor: float = 1.0  # of the numbers that are printed
    names: Sequence[str] = ()  # printed in their place

    def share(self, value: float) -> float:
        """Position between the ends: 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def text(self, tick: float) -> str:
        if self.names:
            return self.names[self.ticks.index(tick)]
        values = [t * self.factor for t in self.ticks]
        digits = next(d for d in range(15) if d == 14 or all(abs(round(v, d) - v) <= 1e-6 * 10.0**-d for v in values))
        return f"{tick * self.factor + 0.0:,.{digits}f}".replace("-", "−")  # noqa: RUF001


def axis(
    low: float,
    high: float,
    title: str = "",
    *,
    factor: float = 1.0,
    count: int = 5,
    pad: float = 0.0,
    whole: bool = False,
) -> Axis:
    """An axis over `low` to `high`, `pad` of its length wider at both ends, with about `count` round ticks."""
    if not high > low:
        half = abs(low) * 0.05 or 0.5
        low, high = low - half, high + half
    low, high = low - pad * (high - low), high + pad * (high - low)
    step = _round_step((high - low) * factor / count, whole) / factor
    first = math.ceil(low / step - 1e-9)
    ticks = [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return Axis(low, high, ticks, title, factor)


def log_axis(low: float, high: float, title: str = "", *, pad: float = 0.04) -> Axis:
    """A logarithmic axis over `low` > 0 to `high`; what stands on it are the decimal logarithms of values."""
    low, high = math.log10(low), math.log10(high)
    if high - low < 0.5:  # at least two ticks
        low, high = (low + high) / 2 - 0.25, (low + high) / 2 + 0.25
    steps = (1, 2, 5) if high - low <= 2.5 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    values = [factor * 10.0**decade for decade in decades for factor in steps]
    kept = [v for v in values if low - 1e-9 <= math.log10(v) <= high + 1e-9]
    room = pad * (high - low)
    return Axis(low - room, high + room, [math.log10(v) for v in kept], title, names=[f"{v:.10g}" for v in kept])


def _round_step(rough: float, whole: bool) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= 0.75 * rough)
    return max(1.0, round(step)) if whole else step


@dataclass
class Chart:
    """Marks on two axes. A mark with a `tip` can be pointed at, and reached with the arrow keys.

    `name` says in one sentence what is to be seen; it is what a screen reader reads.
    """

    name: str
    x: Axis
    y: Axis
    kind: str = ""  # CSS classes: the shape
    lines: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return 100 * self.x.share(x), 100 * (1 - self.y.share(y))

    def line(
        self, xs: Sequence[float], ys: Sequence[float | None], css: str, tip: str = "", member: int | None = None
    ) -> None:
        """A line, broken where y is None or not finite."""
        words, pen = [], "M"
        for x, y in zip(xs, ys, strict=True):
            if y is None or not math.isfinite(y):
                pen = "M"
                continue
            px, py = self._at(x, y)
            # Far outside is as good as outside, and needs fewer digits.
            words.append(f"{pen}{10 * px:.0f} {10 * min(max(py, -100), 200):.0f}")
            pen = "L" if pen == "M" else ""
        if words:
            self.lines.append(f'<path class="{css}"{_data(tip, member)} d="{" ".join(words)}"/>')

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], css: str = "band") -> None:
        """The area between two lines."""
        outline = [*zip(xs, low, strict=True), *zip(reversed(xs), reversed(high), strict=True)]
        points = " ".join(f"{10 * px:.0f} {10 * py:.0f}" for px, py in (self._at(x, y) for x, y in outline))
        self.lines.insert(0, f'<path class="{css}" d="M{points}Z"/>')

    def dot(self, x: float, y: float, css: str, tip: str = "", member: int | None = None, radius: float = 3.5) -> None:
        px, py = self._at(x, y)
        self.marks.append(f'<circle class="{css}"{_data(tip, member)} cx="{px:.2f}%" cy="{py:.2f}%" r="{radius:g}"/>')

    def rule(self, x1: float, y1: float, x2: float, y2: float, css: str, tip: str = "") -> None:
        """A straight piece between two points."""
        (a, b), (c, d) = self._at(x1, y1), self._at(x2, y2)
        self.marks.append(f'<line class="{css}"{_data(tip)} x1="{a:.2f}%" y1="{b:.2f}%" x2="{c:.2f}%" y2="{d:.2f}%"/>')

    def box(self, x: tuple[float, float], y: tuple[float, float], css: str, tip: str = "", opacity: float = 1) -> None:
        (left, top), (right, bottom) = self._at(min(x), max(y)), self._at(max(x), min(y))
        left, right = min(left, right), max(left, right)
        style = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
        self.marks.append(
            f'<rect class="{css}"{style}{_data(tip)} x="{left:.2f}%" y="{top:.2f}%" width="{right - left:.2f}%" '
            f'height="{bottom - top:.2f}%"/>'
        )

    @property
    def has_tips(self) -> bool:
        return any("data-tip" in mark for mark in (*self.lines, *self.marks))

    def __html__(self) -> Markup:
        """The chart with its axes."""
        return Markup(pictures().chart(self))


def strip(x: Axis, kind: str, low: float, high: float, value: float | None = None) -> Markup:
    """One row of a table as a picture: an interval with its estimate, or a bar; the row says it in numbers."""
    return Markup(pictures().strip(x, kind, *sorted((100 * x.share(low), 100 * x.share(high))), value))


def spark(xs: Sequence[float], ys: Sequence[float], top: float, css: str = "") -> Markup:
    """A small curve from 0 to `top` without axes."""
    width = (xs[-1] - xs[0]) or 1.0
    points = [(UNITS * (x - xs[0]) / width, UNITS * (1 - y / (top or 1.0))) for x, y in zip(xs, ys, strict=True)]
    if len(points) == 1:
        points.append((UNITS, points[0][1]))
    return Markup(pictures().spark(css, "M" + " ".join(f"{x:.0f} {y:.0f}" for x, y in points)))


def _data(tip: str, member: int | None = None) -> str:
    mark = f' data-m="{member}"' if member is not None else ""
    return f'{mark} data-tip="{escape(tip)}"' if tip else mark
