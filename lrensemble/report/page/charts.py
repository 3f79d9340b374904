"""The pictures of a report, from its numbers."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from lrensemble.report.page.answer import SINGLE
from lrensemble.report.page.curves import LINES, PANELS, LRCurve
from lrensemble.report.page.heatmap import heatmap_png
from lrensemble.report.page.info import Report
from lrensemble.report.page.svg import Axis, Chart, axis, log_axis, spark, strip
from lrensemble.report.page.teams import SizeRow

FAMILIES = 7  # colours of families of policies
OTHERS = "other functions"
KINDS = {1: "good", 0: "open", -1: "bad"}  # of gains


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def gain_strips(report: Report) -> tuple[Axis, dict[tuple[str, str], Markup]] | None:
    """Intervals of the gain in accuracy on one axis, by team and baseline."""
    rows = report.evaluation.comparisons if report.evaluation else []
    if not rows:
        return None
    ends = [0.0, *(x for row in rows for x in (row.accuracy_gain.low, row.accuracy_gain.high))]
    x = axis(min(ends), max(ends), pad=0.08, count=4)
    gains = {(row.name, row.baseline): row.accuracy_gain for row in rows}
    return x, {key: strip(x, KINDS[g.direction], g.low, g.high, g.value) for key, g in gains.items()}


def pool_strips(reports: Sequence[Report]) -> tuple[Axis, list[Markup]]:
    """The gain in accuracy of each report's team over its best single member, on one axis; empty without one."""
    gains = [row.accuracy_gain if (row := report.answer.against.get(SINGLE)) else None for report in reports]
    ends = [0.0, *(end for gain in gains if gain for end in (gain.low, gain.high))]
    x = axis(min(ends), max(ends), pad=0.08, count=4)
    return x, [strip(x, KINDS[g.direction], g.low, g.high, g.value) if g else Markup("") for g in gains]


def curve_charts(report: Report) -> list[tuple[str, Chart]]:
    """Training curves of the team's members before the best of the others."""
    weights = {row.number: row.weight for row in report.members}
    labels = {row.number: f"{row.number} {row.label}" for row in report.members}
    order = sorted(report.histories, key=lambda h: (weights[h.member] == 0, h.member))[:LINES]
    charts = []
    for key, title, factor in (
        ("val_accuracy", "Validation accuracy, %", 100.0),
        ("val_loss", "Validation loss, nats", 1.0),
    ):
        lines = [(h, getattr(h, key)) for h in order if any(_finite(v) for v in getattr(h, key))]
        if not lines:
            continue
        # The first epochs would leave no room for what matters.
        late = [v for _, values in lines for v in values[len(values) // 10 :] if _finite(v)]
        everything = [v for _, values in lines for v in values if _finite(v)]
        if key == "val_accuracy":
            low, high = float(np.quantile(late, 0.02)), max(everything)
        else:
            low, high = min(everything), float(np.quantile(late, 0.98))
        unit = lines[0][0].unit
        x = axis(0.0, max(h.x[-1] for h, _ in lines), unit)
        is_log = factor == 1 and low > 0 and high > 5 * low
        y = log_axis(low, high, f"{title}, logarithmic") if is_log else axis(low, high, title, factor=factor, pad=0.05)
        chart = Chart("", x, y)
        for history, values in sorted(lines, key=lambda pair: (weights[pair[0].member] > 0, -pair[0].member)):
            css = "team" if weights[history.member] else "other"
            last = next(v for v in reversed(values) if _finite(v))
            end = percent(last) if factor == 100 else f"{last:.4f}"
            at = [math.log10(v) if is_log and v is not None and v > 0 else v for v in values]
            chart.line(history.x, at, css, f"{labels[history.member]}\nat the end {end}", history.member)
        chart.name = f"{title}, over {unit}, of {len(lines)} members while they trained."
        charts.append((title, chart))
    return charts


def fastest_chart(report: Report) -> Chart | None:
    """Mean accuracy over epochs of what `lrensemble fastest` decided between, with the band below the target."""
    found = report.fastest
    if found is None:
        return None
    values = [v for row in found.rows for v in row.curve[len(row.curve) // 10 :] if v is not None]
    y = axis(min(values), max(values), "Validation accuracy, %", factor=100, pad=0.05)
    chart = Chart("", axis(0, max(row.epochs for row in found.rows), "epochs"), y)
    for row in found.rows:
        css = "team" if row is found.recommended else "other"
        chart.line(range(1, row.epochs + 1), row.curve, css, f"{row.policy}, {row.epochs} epochs\n{row.why}")
    ends = [0.0, float(chart.x.high)]
    chart.band(ends, [found.target - 0.005] * 2, [found.target] * 2)
    chart.name = f"Mean validation accuracy over {len(found.seeds)} seeds, by epochs, of {len(found.rows)} policies."
    return chart


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def lr_panels(report: Report) -> tuple[list[tuple[LRCurve, Markup]], bool]:
    """Small LR curves of the best policies, and whether they share one scale."""
    curves = report.lr[:PANELS]
    peaks = [max(curve.lr) for curve in curves]
    common = bool(peaks) and max(peaks) <= 10 * min(peaks)
    inside = {row.number for row in report.members if row.weight}
    return [
        (curve, spark(curve.x, curve.lr, max(peaks) if common else peak, "team" if inside & set(curve.members) else ""))
        for curve, peak in zip(curves, peaks, strict=True)
    ], common


def peak_chart(report: Report) -> tuple[Chart, list[str]] | None:
    """Validation accuracy against the peak LR, and the families of policies in the order of their colours.

    What diverged stands at the bottom, where its LR is.
    """
    shown = [(row, row.peak_lr, row.val["accuracy"]) for row in report.members if row.peak_lr]
    points = [(row, peak, accuracy) for row, peak, accuracy in shown if accuracy is not None]
    lost = [(row, row.peak_lr) for row in report.others if row.peak_lr and row.status == "diverged"]
    peaks = [peak for _, peak, _ in points] + [peak for _, peak in lost]
    if not points or len(set(peaks)) < 2:
        return None
    families = list(dict.fromkeys(row.family for row, *_ in points))  # that of the best member first
    if len(families) > FAMILIES:
        families = [*families[: FAMILIES - 1], OTHERS]
    accuracies = [accuracy for *_, accuracy in points]
    y = axis(min(accuracies), max(accuracies), "Validation accuracy, %", factor=100, pad=0.06)
    chart = Chart("", log_axis(min(peaks), max(peaks), "peak LR, logarithmic"), y, kind="tall")
    for row, peak in lost:
        tip = f"diverged: {row.label}, seed {row.seed}\npeak LR {peak:.3g}"
        chart.dot(math.log10(peak), y.low, "lost", tip, radius=5)
    for row, peak, accuracy in reversed(points):  # the best on top
        family = families.index(row.family) if row.family in families else FAMILIES - 1
        name = f"{row.number} {row.label}, seed {row.seed}"
        tip = f"{name}\npeak LR {peak:.3g}, validation {percent(accuracy)}"
        css, radius = (f"f{family} seat", 6) if row.weight else (f"f{family}", 4)
        chart.dot(math.log10(peak), accuracy, css, tip, row.number, radius)
    _, peak, accuracy = points[0]
    chart.name = (
        f"Validation accuracy against peak LR of {len(points)} members: the best has {percent(accuracy)} "
        f"with a peak of {peak:.3g}{f', and {len(lost)} diverged' if lost else ''}."
    )
    return chart, [family or "LR as logged" for family in families]


def scatter_chart(report: Report) -> Chart | None:
    """Accuracy against diversity on validation: the density of all teams, the best of them, the selected ones."""
    teams = report.teams
    if teams is None or not teams.cells:
        return None
    best = max(row.val["accuracy"] or 0.0 for row in report.members)
    named = _selected_points(report)
    xs = [x for cell in teams.cells for x in cell.diversity] + [x for _, x, _ in named]
    ys = [y for cell in teams.cells for y in cell.accuracy] + [best] + [y for _, _, y in named]
    chart = Chart(
        f"Validation accuracy against disagreement of {teams.scored:,} teams.",
        axis(min(xs), max(xs), "disagreement of pairs, %: more diverse to the right", factor=100, pad=0.03),
        axis(min(ys), max(ys), "Validation accuracy, %", factor=100, pad=0.04),
        kind="tall",
    )
    most = math.log1p(max(cell.teams for cell in teams.cells))
    if teams.scored > len(teams.points):
        for cell in teams.cells:
            tip = f"{cell.teams:,} teams\naccuracy {percent(cell.accuracy[0])} to {percent(cell.accuracy[1])}"
            chart.box(cell.diversity, cell.accuracy, "cell", tip, 0.15 + 0.75 * math.log1p(cell.teams) / (most or 1))
    for point in reversed(teams.points):
        scores = f"validation {percent(point.accuracy)}, test {percent(point.test_accuracy)}"
        tip = f"members {_list(point.members)}\n{scores}\ndisagreement {percent(point.diversity)}"
        chart.dot(point.diversity, point.accuracy, "point", tip, radius=2.2)
    chart.rule(chart.x.low, best, chart.x.high, best, "baseline")
    for name, x, y in named:
        own = report.team is not None and name == report.team.name
        chart.dot(
            x, y, "own" if own else "named", f"{name}\nvalidation {percent(y)}, disagreement {percent(x)}", radius=6
        )
    return chart


def _selected_points(report: Report) -> list[tuple[str, float, float]]:
    """Name, disagreement and validation accuracy of the selected teams of two or more."""
    numbers = {row.id: row.number - 1 for row in report.members}
    pairs = np.array(report.pairs)
    found = []
    for team in report.selected:
        inside = [numbers[i] for i in team.members]
        if len(inside) > 1:
            part = pairs[np.ix_(inside, inside)]
            found.append((team.name, float(part[np.triu_indices(len(inside), 1)].mean()), team.validation["accuracy"]))
    return found


def _list(members: list[int]) -> str:
    shown = " ".join(map(str, members[:12]))
    return f"{shown} … ({len(members)})" if len(members) > 12 else shown


def size_charts(report: Report) -> list[tuple[str, Chart]]:
    """Accuracy and NLL on test by team size: mean and 90 % of all teams, the selected ones, the best single."""
    if report.teams is None:
        return []
    rows = report.teams.sizes
    scores = report.evaluation.scores if report.evaluation else []
    charts = []
    for key, title, factor in (
        ("accuracy", "Test accuracy, %", 100.0),
        ("nll", "Test NLL, nats (lower is better)", 1.0),
    ):
        if any(getattr(row, key) is None for row in [*rows, *scores]):  # members that give labels have no NLL
            continue
        values = [getattr(row, key) for row in rows]
        named = [(score.name, score.members, float(getattr(score, key))) for score in scores]
        everything = [v for value in values for v in value] + [v for *_, v in named]
        x, at = _size_axis(rows[-1].size)
        sizes = [at(row.size) for row in rows]
        chart = Chart(
            "",
            x,
            axis(min(everything), max(everything), title, factor=factor, pad=0.05),
        )
        chart.band(sizes, [v[1] for v in values], [v[2] for v in values])
        chart.line(sizes, [v[0] for v in values], "mean")
        for row, value in zip(rows, values, strict=True):
            chart.dot(at(row.size), value[0], "mean", _size_tip(row, value, factor), radius=2.5)
        for i, (name, size, value) in enumerate(named):
            css = "baseline" if i == 0 else "own" if report.team and name == report.team.name else "named"
            text = percent(value) if factor == 100 else f"{value:.4f}"
            chart.dot(at(size), value, css, f"{name}, {size} members\n{text}", radius=6 if css != "named" else 4.5)
        first, last = values[0][0], values[-1][0]
        show = percent if factor == 100 else "{:.4f}".format
        chart.name = f"{title} by team size: on average {show(first)} for one member, {show(last)} for {rows[-1].size}."
        charts.append((title, chart))
    return charts


def _size_axis(largest: int) -> tuple[Axis, Callable[[int], float]]:
    """The axis, and where a size stands on it: logarithmic where it is long, as the first members matter most."""
    title = "members in the team"
    if largest <= 30:
        return axis(1.0, float(largest), title, whole=True, pad=0.03, count=6), float
    return log_axis(1.0, float(largest), title, pad=0.03), math.log10


def _size_tip(row: SizeRow, value: tuple[float, float, float], factor: float) -> str:
    mean, low, high = (percent(v) if factor == 100 else f"{v:.4f}" for v in value)
    return f"{row.teams:,} teams of {row.size}\nmean {mean}\n90 % between {low} and {high}"


def calibration_chart(report: Report) -> Chart | None:
    """Share of rows that are right against the confidence, for the best single member and the team."""
    curves = [curve for curve in report.calibration if curve.rows]
    if not curves:
        return None
    low = min(min(curve.confidence) for curve in curves)
    low = math.floor(10 * min(low, 0.9)) / 10
    ends = axis(low, 1.0, "confidence, %", factor=100)
    chart = Chart("", ends, axis(0.0, 1.0, "right, %", factor=100), kind="square")
    chart.line([low, 1.0], [low, 1.0], "diagonal")
    for i, curve in enumerate(curves):
        css = "single" if i == 0 else "own"
        chart.line(curve.confidence, curve.accuracy, f"curve {css}")
        most = max(curve.rows)
        for x, (bottom, top) in zip(curve.confidence, curve.interval, strict=True):
            chart.rule(x, bottom, x, top, f"bar {css}")
        for rows, x, y in zip(curve.rows, curve.confidence, curve.accuracy, strict=True):
            tip = f"{curve.name}: {rows:,} rows\nmean confidence {percent(x)}, right {percent(y)}"
            chart.dot(x, y, css, tip, radius=2.5 + 5 * math.sqrt(rows / most))
    chart.name = "Reliability diagram on test: " + ", ".join(f"ECE of {c.name} {c.ece:.4f}" for c in curves) + "."
    return chart


def risk_chart(report: Report) -> Chart | None:
    """Error against coverage, for the best single member and the team."""
    curves = report.risk
    if not curves:
        return None
    top = max(value for curve in curves for value in curve.risk)
    x = axis(0.0, 1.0, "share of the rows that are answered, %", factor=100)
    chart = Chart("", x, axis(0.0, top or 0.01, "wrong, %", factor=100, pad=0.04))
    for i, curve in enumerate(curves):
        at = "\n".join(f"{share} % answered: {percent(value)} wrong" for share, value in curve.at.items())
        chart.line(curve.coverage, curve.risk, f"curve {'single' if i == 0 else 'own'}", f"{curve.name}\n{at}")
    chart.name = "Error by coverage on test: " + ", ".join(
        f"{c.name} {percent(c.at['80'])} wrong at 80 %, {percent(c.at['100'])} at 100 %" for c in curves
    ) + "."  # fmt: skip
    return chart


def heatmap(report: Report) -> dict[str, Any] | None:
    """The picture of the pairs, and its numbers for pointing at."""
    if report.pairs is None:
        return None
    values = np.array(report.pairs)
    off = values[~np.eye(len(values), dtype=bool)]
    shown = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    low, high = float(off.min()), float(off.max())
    count = len(values)
    step = -(-count // 14)
    hundredths = np.round(10_000 * values[np.tril_indices(count, -1)])
    return {
        "png": heatmap_png(shown, low, high),
        "low": low,
        "high": high,
        "mean": float(off.mean()),
        "count": count,
        "ticks": [(i, 100 * (i + 0.5) / count) for i in range(0, count, step)],
        # The lower triangle, row by row, in 0.01 %: two bytes each.
        "pairs": base64.b64encode(hundredths.astype("<u2").tobytes()).decode(),
        "rows": [float(np.delete(values[i], i).mean()) for i in range(count)],
    }


def loss_strips(report: Report) -> tuple[Axis, dict[int, Markup]]:
    """Bars of what the team loses in validation NLL without each of its members."""
    values = {seat.member: seat.val.nll for seat in report.seats if seat.val and seat.val.nll is not None}
    x = axis(min(0.0, *values.values(), 0.0), max(0.0, *values.values(), 0.0), pad=0.06, count=3)
    return x, {
        member: strip(x, "helps" if value > 0 else "hurts", min(0.0, value), max(0.0, value))
        for member, value in values.items()
    }
