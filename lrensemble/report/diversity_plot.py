"""Draw the diversity of a pool: a heatmap of pairs, and accuracy against diversity of its teams."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lrensemble.diversity import METRICS
from lrensemble.report.diversity_info import Diversity
from lrensemble.report.drawing import COLOURS, AxisScale, Matrix, Panel, Picture, Points, Rule
from lrensemble.report.figures import draw

SIDE = 3.1  # of both axes, in inches
NUMBERS = 20  # members of whom the heatmap has room for numbers on the axes
POINTS = 5000  # teams that are drawn as points; more are drawn as a density
CELLS = 45  # of the density, across and down


def draw_diversity(info: Diversity, path: Path) -> None:
    """Write the picture as png, svg or html, by the suffix of `path`."""
    sample = f"{len(info.teams.masks):,} of {info.total:,} teams" if info.is_sample else f"all {info.total:,} teams"
    draw(
        path,
        Picture([[*_heatmap(info), _scatter(info, sample)]]),
        title=f"Diversity of {len(info.ids)} members ({METRICS[info.metric].title}, validation, n = {info.rows:,})",
        summary="The members, best validation accuracy first",
        items=[
            f"{i}: {member} {label}, {accuracy:.2%}"
            for i, (member, label, accuracy) in enumerate(zip(info.ids, info.labels, info.accuracies, strict=True), 1)
        ],
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _heatmap(info: Diversity) -> list[Panel]:
    """Of pairs; the diagonal, which is no pair, stays empty. Dark is diverse, whichever way the metric points."""
    if info.pairs is None:
        return []
    metric, count = METRICS[info.metric], len(info.ids)
    values = np.where(np.eye(count, dtype=bool), np.nan, info.pairs)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    light, dark = (low, high) if metric.higher_is_diverse else (high, low)
    ends = (0.5, count + 0.5)
    names = [(float(i), str(i)) for i in range(1, count + 1, -(-count // NUMBERS))]
    return [
        Panel(
            SIDE,
            SIDE,
            AxisScale(*ends, "Member, best validation accuracy first", names=names),
            AxisScale(*ends[::-1], names=names),
            [Matrix(values, ends, ends[::-1], light, dark, bar=True)],
            f"{_capital(metric.title)} of pairs",
            grid=False,
        )
    ]


def _scatter(info: Diversity, sample: str) -> Panel:
    metric = METRICS[info.metric]
    finite = np.isfinite(info.teams.scores[info.metric])
    x, y = info.teams.scores[info.metric][finite], 100 * info.teams.scores["accuracy"][finite]
    best = 100 * float(info.accuracies.max())
    named = {
        name: (values[info.metric], 100 * values["accuracy"])
        for name, values in info.named.items()
        if np.isfinite(values[info.metric])
    }
    layers: list[Points | Rule | Matrix] = []
    if len(x) > POINTS:
        counts, ys, xs = np.histogram2d(y, x, bins=CELLS)
        shown = np.where(counts > 0, np.log1p(counts), np.nan)[::-1]
        layers.append(Matrix(shown, (xs[0], xs[-1]), (ys[0], ys[-1]), 0.0, float(np.log1p(counts.max()))))
    elif len(x):
        layers.append(Points(x.tolist(), y.tolist(), COLOURS[5], "teams", size=2.5, opacity=0.6))
    layers.append(Rule(best, label="best single member", flat=True, dash=(5, 1.6)))
    for i, (name, (diversity, accuracy)) in enumerate(named.items()):
        shape, size = ("*", 8.0) if name.startswith("(") else ("osD^vP"[i % 6], 5.5)
        layers.append(Points([diversity], [accuracy], COLOURS[(1, 2, 3, 4)[i % 4]], name, shape, size, edge=True))
    xs, ys = [*x, *(d for d, _ in named.values())] or [0.0], [*y, best, *(a for _, a in named.values())]
    ends = _around(min(xs), max(xs))
    ends = ends if metric.higher_is_diverse else ends[::-1]
    return Panel(
        SIDE,
        SIDE,
        AxisScale(*ends, f"{_capital(metric.title)}: more diverse to the right"),
        AxisScale(*_around(min(ys), max(ys)), "Accuracy of the soft vote, %"),
        [*layers],
        f"{_capital(sample)} on validation (n = {info.rows:,})",
    )


def _around(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.5
    return float(low - margin), float(high + margin)
