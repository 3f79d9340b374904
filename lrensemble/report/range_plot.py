"""Draw a range test: the loss that every LR led to, in each sweep, and the LRs that they suggest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lrensemble.errors import UserError
from lrensemble.report.drawing import COLOURS, INK, AxisScale, Panel, Picture, Polyline, Rule, Span
from lrensemble.report.figures import draw

if TYPE_CHECKING:
    from lrensemble.policies.sweep import RangeTest

WIDTH, HEIGHT = 5.6, 3.2  # of the axes, in inches
MARGIN = 0.08  # of the smoothed losses' range, above and below


def draw_range_test(test: RangeTest, path: Path) -> None:
    """Write the picture as png, svg or html, by the suffix of `path`; the LR axis is logarithmic."""
    if not any(curve.lr for curve in test.curves):
        raise UserError("there is nothing to draw: no loss of the range test is finite")
    draw(
        path,
        _picture(test),
        title=f"LR range test ({len(test.curves)} sweeps)",
        summary="What the sweeps suggest",
        items=[f"{name}: {s.lr:.3g} ({s.low:.3g} to {s.high:.3g})" for name, s in test.suggestions.items()]
        or [test.reason],
    )


def _picture(test: RangeTest) -> Picture:
    layers: list[Polyline | Span | Rule] = []
    for colour, (name, s) in zip(COLOURS, test.suggestions.items(), strict=False):
        layers += [Span(s.low, s.high, colour), Rule(s.lr, colour, f"{name}: {s.lr:.3g}")]
    for curve in test.curves:
        layers += [Polyline(curve.lr, curve.loss, INK, width=0.5, opacity=0.15)]
        layers += [Polyline(curve.lr, curve.smooth, INK, width=1.2, opacity=0.7)]
    smooth = [loss for curve in test.curves for loss in curve.smooth]
    low, high = min(smooth), max(smooth)
    margin = MARGIN * (high - low) or 1.0
    lrs = [lr for curve in test.curves for lr in curve.lr]
    x = AxisScale(min(lrs), max(max(lrs), min(lrs) * 1.01), "Learning rate", log=True)
    y = AxisScale(low - margin, high + margin, "Training loss after a step with it")
    return Picture([[Panel(WIDTH, HEIGHT, x, y, [*layers])]])
