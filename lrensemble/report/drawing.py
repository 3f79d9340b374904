"""What a picture is: panels of lines, points and areas on two axes. `svg_file` and `png_file` draw it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrensemble.report.page.svg import axis

INK = "#1b1b1f"  # text and axes; the text's colour on a page, light or dark
# Okabe and Ito's colours that read on white and on black (without their yellow).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
Dash = tuple[float, ...]  # lengths of strokes and gaps, in widths of the line; empty: solid


class Polyline(NamedTuple):
    x: Sequence[float]
    y: Sequence[float]
    colour: str = INK
    label: str = ""
    width: float = 1.2  # points
    dash: Dash = ()
    opacity: float = 1.0
    stairs: bool = False  # y holds until the next x
    dots: bool = False


class Points(NamedTuple):
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    label: str = ""
    shape: str = "o"  # o s D ^ v P *
    size: float = 5.0  # points across
    opacity: float = 1.0
    edge: bool = False


class Span(NamedTuple):
    """A band over all of the other axis."""

    low: float
    high: float
    colour: str
    opacity: float = 0.2


class Band(NamedTuple):
    """The area between two lines."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    colour: str
    opacity: float = 0.15


class Rule(NamedTuple):
    """A line over all of the other axis, at an x or (`flat`) at a y."""

    at: float
    colour: str = INK
    label: str = ""
    flat: bool = False
    dash: Dash = ()


class Matrix(NamedTuple):
    """Cells between the corners, the first row at the top, from light to dark; NaN is empty."""

    values: NDArray[Any]
    x: tuple[float, float]
    y: tuple[float, float]  # at the last row's end, at the first row's
    light: float
    dark: float
    bar: bool = False  # say which number is which colour


Layer = Polyline | Points | Span | Band | Rule | Matrix


class AxisScale(NamedTuple):
    """One axis, drawn from `low` to `high`, which may lie the other way round."""

    low: float
    high: float
    title: str = ""
    log: bool = False
    names: Sequence[tuple[float, str]] | None = None  # in place of round numbers

    def share(self, values: Any) -> NDArray[np.float64]:
        """Positions between the ends: 0 to 1; what is far outside stays near."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        given = np.asarray(values, dtype=np.float64)
        if self.log:
            given = np.log10(np.maximum(given, self.low * 1e-3))
        return np.clip((given - low) / (high - low), -2, 3)

    def ticks(self) -> list[tuple[float, str]]:
        if self.names is not None:
            return list(self.names)
        low, high = sorted((self.low, self.high))
        if not self.log:
            found = axis(low, high)
            return [(tick, found.text(tick)) for tick in found.ticks if low <= tick <= high]
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if len(decades) <= 3 else (1,)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        return [(tick, f"{tick:g}") for tick in ticks if low * 0.999 <= tick <= high * 1.001]


@dataclass
class Panel:
    """One pair of axes; its labelled layers are named below it."""

    width: float  # inches of the axes
    height: float
    x: AxisScale
    y: AxisScale
    layers: list[Layer] = field(default_factory=list)
    title: str = ""
    grid: bool = True

    @property
    def labelled(self) -> list[Polyline | Points | Rule]:
        return [layer for layer in self.layers if isinstance(layer, Polyline | Points | Rule) and layer.label]


@dataclass
class Picture:
    """Panels side by side, row below row."""

    rows: Sequence[Sequence[Panel]]

    @property
    def layers(self) -> list[Layer]:
        return [layer for row in self.rows for panel in row for layer in panel.layers]
