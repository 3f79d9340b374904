"""Draw the diversity of a pool: a heatmap of pairs, and accuracy against diversity of its teams."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lrensemble.diversity import METRICS
from lrensemble.report.diversity_info import Diversity
from lrensemble.report.figures import COLOURS, DPI, INK, draw, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 3.1  # of both axes, in inches
GAP = 1.5  # between them
NUMBERS = 20  # members of whom the heatmap has room for numbers on the axes
POINTS = 5000  # teams that are drawn as points; more are drawn as a density


def draw_diversity(info: Diversity, path: Path) -> None:
    """Write the picture as png, svg or html, by the suffix of `path`."""
    sample = f"{len(info.teams.masks):,} of {info.total:,} teams" if info.is_sample else f"all {info.total:,} teams"
    draw(
        path,
        lambda: _figure(info, sample),
        title=f"Diversity of {len(info.ids)} members ({METRICS[info.metric].title}, validation, n = {info.rows:,})",
        summary="The members, best validation accuracy first",
        lines=False,
        items=[
            f"{i}: {member} {label}, {accuracy:.2%}"
            for i, (member, label, accuracy) in enumerate(zip(info.ids, info.labels, info.accuracies, strict=True), 1)
        ],
    )


def _figure(info: Diversity, sample: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * SIDE + GAP, SIDE), dpi=DPI)
    width = 2 * SIDE + GAP
    left = 0.0
    if info.pairs is not None:
        _heatmap(figure, figure.add_axes((0, 0, SIDE / width, 1)), info)
        left = SIDE + GAP
    _scatter(figure, figure.add_axes((left / width, 0, SIDE / width, 1)), info, sample)
    return figure


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _heatmap(figure: Figure, axes: Axes, info: Diversity) -> None:
    """Of pairs; the diagonal, which is no pair, stays empty."""
    assert info.pairs is not None
    values = np.where(np.eye(len(info.ids), dtype=bool), np.nan, info.pairs)
    # Dark is diverse, whichever way the metric points.
    map_name = "viridis_r" if METRICS[info.metric].higher_is_diverse else "viridis"
    image = axes.imshow(values, cmap=map_name, interpolation="nearest")
    count = len(info.ids)
    step = -(-count // NUMBERS)
    axes.set_xticks(range(0, count, step), [str(i + 1) for i in range(0, count, step)])
    axes.set_yticks(range(0, count, step), [str(i + 1) for i in range(0, count, step)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Member, best validation accuracy first")
    axes.set_title(f"{_capital(METRICS[info.metric].title)} of pairs", loc="left")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.outline.set_visible(False)


def _scatter(figure: Figure, axes: Axes, info: Diversity, sample: str) -> None:
    metric = METRICS[info.metric]
    finite = np.isfinite(info.teams.scores[info.metric])
    x, y = info.teams.scores[info.metric][finite], 100 * info.teams.scores["accuracy"][finite]
    if len(x) <= POINTS:
        axes.plot(x, y, ".", color=COLOURS[5], markersize=2.5, alpha=0.6, label="teams")
    elif len(x):
        density = axes.hexbin(x, y, gridsize=45, bins="log", cmap="Blues", mincnt=1, linewidths=0.1)
        bar = figure.colorbar(density, ax=axes, fraction=0.046, pad=0.03)
        bar.set_label("teams")
        bar.outline.set_visible(False)
    best = 100 * info.accuracies.max()
    axes.axhline(best, color=INK, linewidth=0.8, linestyle=(0, (5, 1.6)), label="best single member")
    for i, (name, values) in enumerate(info.named.items()):
        if np.isfinite(values[info.metric]):
            marker = "*" if name.startswith("(") else "osD^vP"[i % 6]
            axes.plot(
                values[info.metric],
                100 * values["accuracy"],
                marker,
                color=COLOURS[(1, 2, 3, 4)[i % 4]],
                markeredgecolor=INK,
                markeredgewidth=0.4,
                markersize=8 if marker == "*" else 5.5,
                linestyle="none",
                label=plain(name),
            )
    if not metric.higher_is_diverse:
        axes.invert_xaxis()
    axes.set_xlabel(f"{_capital(metric.title)}: more diverse to the right")
    axes.set_ylabel("Accuracy of the soft vote, %")
    axes.set_title(f"{_capital(plain(sample))} on validation (n = {info.rows:,})", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=INK, alpha=0.12, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.17), frameon=False, ncols=3, borderaxespad=0, borderpad=0)
