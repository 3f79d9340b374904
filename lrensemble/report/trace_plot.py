"""The LRs that a controller chose, the nearest short policy, and what it measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrensemble.report.figures import COLOURS, DPI, INK, check_target, draw
from lrensemble.report.policy_curves import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 6.3, 2.6  # inches
MOST_LINES = 7  # of probes, each with a colour


def draw_trace(curves: Sequence[Curve], probes: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw LR over steps for each of `curves`, and below them loss over LR for every probe, with its lowest point."""
    check_target(path)
    shown = [probe for probe in probes if measured(probe)]
    draw(
        path,
        lambda: _figure(curves, shown),
        title="Learning rates of a controlled run",
        summary="The policies as text",
        items=[curve.label for curve in curves],
    )


def measured(probe: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(LR, loss) of a probe: along an update, or forecast by trials; in the order of the LR."""
    losses = probe.get("differences") or probe.get("forecasts") or []
    return sorted((lr, loss) for lr, loss in zip(probe["lrs"], losses, strict=False) if loss is not None)


def _figure(curves: Sequence[Curve], probes: Sequence[Mapping[str, Any]]) -> Figure:
    from matplotlib.figure import Figure

    rows = 2 if probes else 1
    figure = Figure(figsize=(WIDTH, HEIGHT * rows), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, squeeze=False)[:, 0]
    for i, curve in enumerate(curves):
        axes[0].plot(curve.steps, curve.lr, color=COLOURS[i], linestyle="-" if i == 0 else (0, (5, 1.6)), linewidth=1.4)
    axes[0].legend([curve.label for curve in curves], frameon=False)
    axes[0].set(xlabel="Training time (optimizer steps)", ylabel="Learning rate", ylim=(0, None))
    for probe, colour in zip(probes[:MOST_LINES], COLOURS, strict=False):
        lrs, losses = zip(*measured(probe), strict=True)
        axes[1].plot(
            lrs, losses, color=colour, marker="o", markersize=2.5, linewidth=1, label=f"step {probe['step']:,}"
        )
        if probe["lr"] is not None:
            axes[1].axvline(probe["lr"], color=colour, linewidth=1)
            if probe.get("high"):
                axes[1].axvspan(probe["low"], probe["high"], color=colour, alpha=0.12, linewidth=0)
    if probes:
        axes[1].set_xscale("log")
        lowest = min(loss for probe in probes for _, loss in measured(probe))
        axes[1].set_ylim(lowest - 0.15 * abs(lowest), max(3 * abs(lowest), 1e-12))
        axes[1].set(xlabel="Learning rate", ylabel="Change of the loss")
        axes[1].legend(axes[1].lines[: len(probes)], [f"step {p['step']:,}" for p in probes], frameon=False)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color=INK, alpha=0.12, linewidth=0.5)
    return figure
