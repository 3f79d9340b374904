"""Draw a range test: the loss that every LR led to, in each sweep, and the LRs that they suggest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lrensemble.errors import UserError
from lrensemble.report.figures import COLOURS, DPI, INK, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lrensemble.policies.sweep import RangeTest

WIDTH, HEIGHT = 5.6, 3.2  # of the axes, in inches
MARGIN = 0.08  # of the smoothed losses' range, above and below


def draw_range_test(test: RangeTest, path: Path) -> None:
    """Write the picture as png, svg or html, by the suffix of `path`; the LR axis is logarithmic."""
    if not any(curve.lr for curve in test.curves):
        raise UserError("there is nothing to draw: no loss of the range test is finite")
    draw(
        path,
        lambda: _figure(test),
        title=f"LR range test ({len(test.curves)} sweeps)",
        summary="What the sweeps suggest",
        items=[f"{name}: {s.lr:.3g} ({s.low:.3g} to {s.high:.3g})" for name, s in test.suggestions.items()]
        or [test.reason],
    )


def _figure(test: RangeTest) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    for curve in test.curves:
        axes.plot(curve.lr, curve.loss, color=INK, alpha=0.15, linewidth=0.5)
        axes.plot(curve.lr, curve.smooth, color=INK, alpha=0.7, linewidth=1.2)
    for colour, (name, s) in zip(COLOURS, test.suggestions.items(), strict=False):
        axes.axvspan(s.low, s.high, color=colour, alpha=0.2, linewidth=0)
        axes.axvline(s.lr, color=colour, linewidth=1.2, label=f"{name}: {s.lr:.3g}")
    smooth = [loss for curve in test.curves for loss in curve.smooth]
    low, high = min(smooth), max(smooth)
    axes.set_ylim(low - MARGIN * (high - low), high + MARGIN * (high - low) or low + 1)
    axes.set_xscale("log")
    axes.set_xlabel("Learning rate")
    axes.set_ylabel("Training loss after a step with it")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=INK, alpha=0.12, linewidth=0.5)
    axes.set_axisbelow(True)
    if test.suggestions:
        axes.legend(loc="lower left", frameon=False)
    return figure
