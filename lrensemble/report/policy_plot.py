"""Draw policies for a paper: several in one plot, told apart by colour and line style, with a legend that reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lrensemble.errors import UserError
from lrensemble.report.drawing import COLOURS, AxisScale, Dash, Panel, Picture, Polyline
from lrensemble.report.figures import check_target, draw
from lrensemble.report.policy_curves import Curve

STYLES: tuple[Dash, ...] = ((), (5, 1.6), (1.2, 1.4), (6, 1.6, 1.2, 1.6))
MOST = len(COLOURS) * len(STYLES)
WIDTH, HEIGHT = 6.3, 3.1  # of the axes, in inches
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
        _picture(curves, epochs=epochs, log=log),
        title=f"Learning-rate policies ({count})" if count > 1 else f"Learning-rate policy {curves[0].label}",
        summary="The policies as text",
        items=[curve.label for curve in curves],
    )


def _picture(curves: Sequence[Curve], *, epochs: bool, log: bool) -> Picture:
    lines = []
    for i, curve in enumerate(curves):
        x, lr = (curve.epochs if epochs else curve.steps).tolist(), curve.lr.tolist()
        stairs = len(x) <= STAIRS and curve.steps[-1] == len(x) - 1
        if stairs:  # the last LR holds for one step, too
            x, lr = [*x, len(x) / (curve.steps_per_epoch if epochs else 1)], [*lr, lr[-1]]
        dash, width = STYLES[i // len(COLOURS) % len(STYLES)], 1.5 if len(curves) <= 6 else 1.2
        lines.append(Polyline(x, lr, COLOURS[i % len(COLOURS)], curve.label, width, dash, stairs=stairs))
    end = max(float((c.steps[-1] + 1) / (c.steps_per_epoch if epochs else 1)) for c in curves)
    time = AxisScale(0, end, f"Training time ({'epochs' if epochs else 'optimizer steps'})")
    return Picture([[Panel(WIDTH, HEIGHT, time, _lr_scale(curves, log=log), [*lines])]])


def _lr_scale(curves: Sequence[Curve], *, log: bool) -> AxisScale:
    top = max(float(curve.lr.max()) for curve in curves)
    if not log:
        top = top or 1.0
        return AxisScale(-0.015 * top, 1.04 * top, "Learning rate")  # a line at 0 is seen
    lowest = min(float(curve.lr[curve.lr > 0].min()) for curve in curves if curve.lr.max() > 0)
    return AxisScale(max(lowest / 1.3, top * 10.0**-DECADES), top * 1.3, "Learning rate", log=True)
