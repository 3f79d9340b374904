"""Draw policies for a paper: several in one plot, told apart by colour and line style, with a legend that reads."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrensemble.errors import UserError
from lrensemble.report.figures import COLOURS, DPI, INK, check_target, draw, plain
from lrensemble.report.policy_curves import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.6, 1.2, 1.6)))
MOST = len(COLOURS) * len(STYLES)
WIDTH, HEIGHT = 6.3, 3.1  # of the axes, in inches
LABELS = 0.5  # inches left of and below the axes for their labels; the legend starts there
STAIRS = 200  # a budget of at most so many steps is drawn as the stairs that it is
DECADES = 5  # of a log axis at most: policies that end in 0 pass every decade there is


def draw_policies(curves: Sequence[Curve], path: Path, *, epochs: bool, log: bool) -> None:
    """Draw `curves` into one plot and write it as png, svg or html, by the suffix of `path`.

    Parameters
    ----------
    curves : sequence of Curve
        As `policy_curves` makes them; at most `MOST`, which is as many as can be told apart.
    path : Path
    epochs : bool
        The x axis in epochs, otherwise in optimizer steps.
    log : bool
        The learning rate on a logarithmic axis.
    """
    check_target(path)
    if not curves:
        raise UserError("no policy to draw")
    if len(curves) > MOST:
        raise UserError(f"{len(curves)} policies cannot be told apart in one plot: draw at most {MOST}")
    if log and not any(curve.lr.max() > 0 for curve in curves):
        raise UserError("every learning rate is 0: a log axis cannot show that")
    count = len(curves)
    draw(
        path,
        lambda: _figure(curves, epochs=epochs, log=log),
        title=f"Learning-rate policies ({count})" if count > 1 else f"Learning-rate policy {curves[0].label}",
        summary="The policies as text",
        items=[curve.label for curve in curves],
    )


def _figure(curves: Sequence[Curve], *, epochs: bool, log: bool) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)  # saved with a tight box: grows by the labels and the legend
    axes = figure.add_axes((0, 0, 1, 1))
    for i, curve in enumerate(curves):
        x, lr = (curve.epochs if epochs else curve.steps), curve.lr
        stairs = len(x) <= STAIRS and curve.steps[-1] == len(x) - 1
        if stairs:  # the last LR holds for one step, too
            x, lr = [*x, len(x) / (curve.steps_per_epoch if epochs else 1)], [*lr, lr[-1]]  # type: ignore[assignment]
        axes.plot(
            x,
            lr,
            color=COLOURS[i % len(COLOURS)],
            linestyle=STYLES[i // len(COLOURS) % len(STYLES)],
            linewidth=1.5 if len(curves) <= 6 else 1.2,
            drawstyle="steps-post" if stairs else "default",
            zorder=2 + i / MOST,
        )
    axes.set_xlim(0, max(float((c.steps[-1] + 1) / (c.steps_per_epoch if epochs else 1)) for c in curves))
    _set_lr_axis(axes, curves, log=log)
    axes.set_xlabel("Training time (epochs)" if epochs else "Training time (optimizer steps)")
    axes.set_ylabel("Learning rate")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 2.5, 5, 10], integer=not epochs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.12g}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=INK, alpha=0.12, linewidth=0.5)
    axes.set_axisbelow(True)
    _add_legend(axes, [plain(curve.label) for curve in curves])
    return figure


def _set_lr_axis(axes: Axes, curves: Sequence[Curve], *, log: bool) -> None:
    top = max(float(curve.lr.max()) for curve in curves)
    if not log:
        top = top or 1.0
        axes.set_ylim(-0.015 * top, 1.04 * top)  # a line at 0 is seen
        return
    lowest = min(float(curve.lr[curve.lr > 0].min()) for curve in curves if curve.lr.max() > 0)
    axes.set_yscale("log", nonpositive="clip")  # an LR of 0 leaves through the bottom
    axes.set_ylim(max(lowest / 1.3, top * 10.0**-DECADES), top * 1.3)


def _add_legend(axes: Axes, labels: Sequence[str]) -> None:
    """Below the axes, in as many columns as fit; what is too long for one column is wrapped."""
    shown = ["\n".join(textwrap.wrap(label, 88, subsequent_indent="    ")).replace("$", r"\$") for label in labels]

    def add(columns: int) -> float:
        legend = axes.legend(
            axes.lines,
            shown,
            loc="upper left",
            bbox_to_anchor=(-LABELS / WIDTH, -LABELS / HEIGHT),
            borderaxespad=0,
            borderpad=0,
            ncols=columns,
            frameon=False,
            handlelength=3.2,
            handletextpad=0.6,
            columnspacing=1.6,
            labelspacing=0.45,
        )
        return float(legend.get_window_extent().width) / DPI

    for columns in range(min(3, len(labels)), 0, -1):
        if add(columns) <= WIDTH + LABELS:
            break
