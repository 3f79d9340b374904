"""The LRs that a controller chose, the nearest short policy, and what it measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lrensemble.report.drawing import COLOURS, AxisScale, Panel, Picture, Polyline, Rule, Span
from lrensemble.report.figures import check_target, draw
from lrensemble.report.policy_curves import Curve

WIDTH, HEIGHT = 6.3, 2.6  # inches
MOST_LINES = 7  # of probes, each with a colour


def draw_trace(curves: Sequence[Curve], probes: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw LR over steps for each of `curves`, and below them loss over LR for every probe, with its lowest point."""
    check_target(path)
    shown = [probe for probe in probes if measured(probe)]
    draw(
        path,
        _picture(curves, shown),
        title="Learning rates of a controlled run",
        summary="The policies as text",
        items=[curve.label for curve in curves],
    )


def measured(probe: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(LR, loss) of a probe: along an update, or forecast by trials; in the order of the LR."""
    losses = probe.get("differences") or probe.get("forecasts") or []
    return sorted((lr, loss) for lr, loss in zip(probe["lrs"], losses, strict=False) if loss is not None)


def _picture(curves: Sequence[Curve], probes: Sequence[Mapping[str, Any]]) -> Picture:
    top = max(float(curve.lr.max()) for curve in curves) or 1.0
    time = AxisScale(0, max(float(curve.steps[-1]) for curve in curves) or 1.0, "Training time (optimizer steps)")
    lines = [
        Polyline(curve.steps.tolist(), curve.lr.tolist(), colour, curve.label, 1.4, (5, 1.6) if i else ())
        for i, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False))
    ]
    panels = [Panel(WIDTH, HEIGHT, time, AxisScale(0, 1.04 * top, "Learning rate"), [*lines])]
    return Picture([panels] + ([[_probes(probes)]] if probes else []))


def _probes(probes: Sequence[Mapping[str, Any]]) -> Panel:
    """Loss over LR for each of the first probes, and the LRs that were chosen."""
    layers: list[Polyline | Span | Rule] = []
    for probe, colour in zip(probes[:MOST_LINES], COLOURS, strict=False):
        lrs, losses = zip(*measured(probe), strict=True)
        layers.append(Polyline(lrs, losses, colour, f"step {probe['step']:,}", 1.0, dots=True))
        if probe["lr"] is not None:
            layers.append(Rule(probe["lr"], colour))
            layers += [Span(probe["low"], probe["high"], colour, 0.12)] if probe.get("high") else []
    every = [point for probe in probes for point in measured(probe) if point[0] > 0]
    lowest = min(loss for _, loss in every)
    x = AxisScale(0.9 * min(lr for lr, _ in every), 1.1 * max(lr for lr, _ in every), "Learning rate", log=True)
    y = AxisScale(lowest - 0.15 * abs(lowest), max(3 * abs(lowest), 1e-12), "Change of the loss")
    return Panel(WIDTH, HEIGHT, x, y, [*layers])
