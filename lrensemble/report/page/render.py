"""From the numbers to one page that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from lrensemble.pool import Pool
from lrensemble.pool.files import write_atomic
from lrensemble.pool.given import given_pool
from lrensemble.report.page import charts
from lrensemble.report.page.answer import QUESTIONS
from lrensemble.report.page.index import PoolRow
from lrensemble.report.page.info import Report, report_info
from lrensemble.report.page.templates import pictures, templates

MATRIX = 16  # members of whom the table of pairs is written out
KINDS: dict[str, tuple[float, str, str]] = {  # of numbers: factor, format, unit
    "percent": (100, ".2f", ""),
    "points": (1, "+.2f", ""),
    "nats": (1, ".4f", ""),
    "gain": (1, "+.4f", ""),
    "count": (1, ",.0f", ""),
    "weight": (1, ".3f", ""),
    "ratio": (1, ",.2f", "×"),  # noqa: RUF001
    "decimal": (1, ",.2f", ""),
    "rate": (1, "+.2f", ""),
    "p": (1, ".3f", ""),
}


def number(key: str, value: float | None, kind: str) -> Markup:
    """A number as text, with nine digits of it and what it is beside it for programs (and for the tests)."""
    if value is None or not math.isfinite(value):
        return Markup("–")  # noqa: RUF001
    factor, form, unit = KINDS[kind]
    digits = int(form[form.index(".") + 1 : -1])
    text = format(round(factor * value, digits) + 0.0, form).replace("-", "−")  # noqa: RUF001
    if kind == "p" and 0 <= value < 0.0005:
        text = "< 0.001"
    return _data(key, value, f"{text}{unit}")


def _data(key: str, value: float, text: str) -> Markup:
    return Markup(f'<data data-key="{escape(key)}" value="{value:.9g}">{escape(text)}</data>')


def duration(key: str, seconds: float | None) -> Markup:
    """Seconds in the unit that people would use."""
    if seconds is None:
        return number(key, None, "count")
    size, unit = next(((s, u) for s, u in ((3600, "h"), (60, "min")) if seconds >= 2 * s), (1, "s"))
    return _data(key, seconds, f"{seconds / size:.1f} {unit}")


def short(key: str, value: float | None) -> Markup:
    """A large count in three digits: 4.81 k, 1.2 M."""
    if value is None:
        return number(key, None, "count")
    size, unit = next(((s, u) for s, u in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= s), (1, ""))
    return _data(key, value, f"{value / size:.3g} {unit}")


def three_digits(key: str, value: float | None) -> Markup:
    """A learning rate."""
    return number(key, None, "count") if value is None else _data(key, value, f"{value:.3g}".replace("-", "−"))  # noqa: RUF001


def page(report: Report) -> str:
    """The page as text."""
    return _rendered("page.html", report=report, **_pictures(report))


def index_page(rows: Sequence[PoolRow]) -> str:
    """The page of several pools."""
    x, strips = charts.pool_strips([row.report for row in rows])
    compared = any(row.accuracy_over_first for row in rows)
    return _rendered("index.html", rows=rows, axis=x, strips=strips, compared=compared)


def _rendered(template: str, **values: Any) -> str:
    environment = templates()
    environment.globals |= {"number": number, "duration": duration, "short": short, "three_digits": three_digits}
    environment.globals["strip_axis"] = pictures().strip_axis
    source = environment.loader
    assert source is not None
    files = {name: Markup(source.get_source(environment, f"page.{name}")[0]) for name in ("css", "js")}
    return environment.get_template(template).render(**values, **files) + "\n"


def _pictures(report: Report) -> dict[str, Any]:
    panels, common = charts.lr_panels(report)
    heat = charts.heatmap(report)
    return {
        "gains": charts.gain_strips(report),
        "questions": QUESTIONS,
        "losses": charts.loss_strips(report),
        "peaks": charts.peak_chart(report),
        "panels": panels,
        "common_scale": common,
        "curves": charts.curve_charts(report),
        "fastest": charts.fastest_chart(report),
        "scatter": charts.scatter_chart(report),
        "sizes": charts.size_charts(report),
        "calibration": charts.calibration_chart(report),
        "risk": charts.risk_chart(report),
        "heat": heat,
        "confusion_matrix": report.confusion.matrix if len(report.class_names) <= MATRIX else None,
        "matrix": heat is not None and heat["count"] <= MATRIX,
    }


def write_report(about: Pool | Report | str | Path, path: str | Path, team: str | None = None) -> Report:
    """Write the page about a pool and one of its teams, or of numbers that are there; return the numbers.

    The page appears whole or not at all. Default for the team: that with the lowest validation NLL.

    Raises
    ------
    UserError
        Unknown team, a pool without complete members.
    """
    report = about if isinstance(about, Report) else report_info(given_pool(about), team)
    write_page(page(report), path)
    return report


def write_page(text: str, path: str | Path) -> None:
    """A page's file, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda file: file.write(text.encode()))
