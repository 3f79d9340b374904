"""Draw replays: a row a pool, validation NLL and test accuracy against members trained, a line a strategy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrensemble.report.figures import COLOURS, DPI, INK, check_target, draw, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = (("val_nll", "Validation NLL of the team, nats", 1), ("test_accuracy", "Test accuracy of the team, %", 100))
WIDTH, HEIGHT = 3.4, 2.5  # of one panel, in inches


def draw_replays(pools: list[dict[str, Any]], path: Path) -> None:
    """Write the picture as png, svg or html.

    Parameters
    ----------
    pools : list of dict
        ``name``, ``members``, and ``strategies``: name -> measure -> ``{"budgets", "mean", "low", "high"}``; strategies
        whose name starts with ``clairvoyant`` peek, and are dashed.
    """
    check_target(path)
    draw(
        path,
        lambda: _figure(pools),
        title="Replays: how good the team would have been",
        summary="Pools",
        items=[f"{pool['name']}: {pool['members']} members" for pool in pools],
    )


def _figure(pools: list[dict[str, Any]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH * len(PANELS) + 1, (HEIGHT + 0.6) * len(pools)), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(pools), len(PANELS), squeeze=False)
    for row, pool in zip(grid, pools, strict=True):
        for axes, (measure, label, factor) in zip(row, PANELS, strict=True):
            for i, (name, measures) in enumerate(pool["strategies"].items()):
                line = measures[measure]
                peeks = name.startswith("clairvoyant")
                colour = COLOURS[i % len(COLOURS)]
                mean, low, high = ([factor * x for x in line[key]] for key in ("mean", "low", "high"))
                axes.plot(
                    line["budgets"],
                    mean,
                    color=colour,
                    linestyle=(0, (3, 1.5)) if peeks else "-",
                    linewidth=2 if name == "ours" else 1.2,
                    label=name,
                    zorder=3 if name == "ours" else 2,
                )
                if not peeks:
                    axes.fill_between(line["budgets"], low, high, color=colour, alpha=0.15, linewidth=0)
            axes.set_title(f"{plain(pool['name'])} ({pool['members']} members)", loc="left")
            axes.set_xlabel("Members trained")
            axes.set_ylabel(label)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color=INK, alpha=0.12, linewidth=0.5)
            axes.set_axisbelow(True)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure
