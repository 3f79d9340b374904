"""Draw replays: a row a pool, validation NLL and test accuracy against members trained, a line a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrensemble.report.drawing import COLOURS, AxisScale, Band, Panel, Picture, Polyline
from lrensemble.report.figures import check_target, draw

Panels = Sequence[tuple[str, str, float]]
PANELS: Panels = (
    ("val_nll", "Validation NLL of the team, nats", 1),
    ("test_accuracy", "Test accuracy of the team, %", 100),
)
WIDTH, HEIGHT = 3.4, 2.5  # of one panel, in inches


def draw_replays(pools: list[dict[str, Any]], path: Path, panels: Panels = PANELS) -> None:
    """Write the picture as png, svg or html.

    Parameters
    ----------
    pools : list of dict
        ``name``, ``members``, and ``strategies``: name -> measure -> ``{"budgets", "mean", "low", "high"}``; strategies
        whose name starts with ``clairvoyant`` peek, and are dashed.
    panels : what is drawn of every pool: the measure, the label of its axis, and a factor
    """
    check_target(path)
    draw(
        path,
        _picture(pools, panels),
        title="Replays: how good the team would have been",
        summary="Pools",
        items=[f"{pool['name']}: {pool['members']} members" for pool in pools],
    )


def _picture(pools: list[dict[str, Any]], panels: Panels) -> Picture:
    return Picture(
        [[_panel(pool, *panel, pool is pools[-1] and panel is panels[0]) for panel in panels] for pool in pools]
    )


def _panel(pool: dict[str, Any], measure: str, label: str, factor: float, named: bool) -> Panel:
    bands, lines = [], []
    for i, (name, measures) in enumerate(pool["strategies"].items()):
        budgets, peeks = measures[measure]["budgets"], name.startswith("clairvoyant")
        colour = COLOURS[i % len(COLOURS)]
        mean, low, high = ([factor * x for x in measures[measure][key]] for key in ("mean", "low", "high"))
        bands += [] if peeks else [Band(budgets, low, high, colour)]
        width, dash = 2 if name == "ours" else 1.2, (3, 1.5) if peeks else ()
        lines.append(Polyline(budgets, mean, colour, name if named else "", width, dash))
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in line.y] + [y for band in bands for y in (*band.low, *band.high)]
    margin = 0.05 * (max(ys) - min(ys)) or 0.5
    x, y = AxisScale(min(xs), max(xs), "Members trained"), AxisScale(min(ys) - margin, max(ys) + margin, label)
    return Panel(WIDTH, HEIGHT, x, y, [*bands, *lines], f"{pool['name']} ({pool['members']} members)")
