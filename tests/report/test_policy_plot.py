"""The files are what their names say, whole, reproducible, and everything in them is inside the picture."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from lrensemble.errors import UserError
from lrensemble.policies import parse_policies
from lrensemble.policies.lines import bends
from lrensemble.report.policy_curves import Curve, policy_curves
from lrensemble.report.policy_plot import COLOURS, MOST, STYLES, draw_policies
from lrensemble.report.svg_file import TOLERANCE

TEXTS = ["STEP(k0=0.1, gamma=0.1, l=60e)", "TRI2(k0=0.1, k1=0.01, l=25e)", "COS(k0=0.1, l=100%)"]


def curves_of(*texts: str, total_steps: int = 20_000) -> list[Curve]:
    return policy_curves([p for text in texts for p in parse_policies(text)], 100, total_steps)


def draw(path: Path, curves: list[Curve], *, epochs: bool = True, log: bool = False) -> bytes:
    draw_policies(curves, path, epochs=epochs, log=log)
    return path.read_bytes()


def test_png(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    from PIL import Image

    data = draw(tmp_path / "lr.PNG", curves_of(*TEXTS))
    assert len(data) < 150_000
    with Image.open(tmp_path / "lr.PNG") as image:
        assert image.format == "PNG"
        assert round(image.info["dpi"][0]) == 300
        pixels = np.asarray(image.convert("RGB"))
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edge > 250).all()  # nothing is cut off
    shown = {tuple(colour) for colour in pixels.reshape(-1, 3)[::3]}
    for colour in COLOURS[: len(TEXTS)]:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert min(np.abs(np.array(c, dtype=int) - wanted).max() for c in shown) <= 8


def test_svg_is_deterministic_and_well_formed(tmp_path: Path):
    first = draw(tmp_path / "a.svg", curves_of(*TEXTS))
    assert first == draw(tmp_path / "b.svg", curves_of(*TEXTS))
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert b"dc:date" not in first
    assert len(first) < 100_000


def test_the_users_matplotlibrc_and_this_process_are_left_alone(tmp_path: Path):
    matplotlib = pytest.importorskip("matplotlib")
    first = draw(tmp_path / "a.png", curves_of(*TEXTS))
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30}):
        assert draw(tmp_path / "b.png", curves_of(*TEXTS)) == first
        assert matplotlib.rcParams["font.size"] == 30


def test_a_line_of_few_points_is_the_line():
    """Against the plain interpolation of all points, at every one of them."""
    x = np.linspace(0, 600, 4000)
    for y in (100 * np.cos(x / 90), np.where(x % 100 < 50, 20.0, 80.0), np.abs(x % 60 - 30), 0 * x, x**2 / 1000):
        points = np.stack([x, y], axis=-1)
        few = points[bends(points.tolist(), TOLERANCE)]
        assert len(few) < 400
        inner = np.ones(len(x), bool) if not (y == 20).any() else np.abs(x % 50 - 25) < 24.8  # jumps have no width
        assert np.abs(np.interp(x, *few.T) - y)[inner].max() <= 2 * TOLERANCE


def test_what_is_drawn_stands_where_it_belongs(tmp_path: Path):
    """Half the budget and half the LR are the middle of the axes, by the file's own numbers."""
    from lrensemble.report.drawing import AxisScale, Panel, Picture, Points, Polyline
    from lrensemble.report.svg_file import INCH, svg

    panel = Panel(4, 2, AxisScale(0, 10, "x"), AxisScale(1e-4, 1.0, "y", log=True), [Points([5.0], [0.01], "#123456")])
    root = ElementTree.fromstring(svg(Picture([[panel]])))
    [dot] = [e for e in root.iter() if e.get("fill") == "#123456"]
    assert (float(dot.get("cx")), float(dot.get("cy"))) == pytest.approx((2 * INCH, INCH))
    panel.layers = [Polyline([0, 1, 2], [1.0, 0.1, 0.01], "#123456", stairs=True)]
    [path] = [e for e in ElementTree.fromstring(svg(Picture([[panel]]))).iter() if e.get("stroke") == "#123456"]
    steps = re.findall(r"[Ml]([-\d.]+) ([-\d.]+)", path.get("d"))
    assert np.cumsum(np.array(steps, float), axis=0) == pytest.approx(
        np.array([[0, 0], [38.4, 0], [38.4, 48], [76.8, 48], [76.8, 96]]), abs=0.11
    )


def test_html_is_one_page_for_light_and_dark(tmp_path: Path):
    page = draw(tmp_path / "lr.html", curves_of(*TEXTS)).decode()
    assert page.startswith("<!doctype html>")
    assert "<title>Learning-rate policies (3)</title>" in page
    assert "prefers-color-scheme: dark" in page
    assert not re.findall(r"(?:src|href)=\"(?!#)", page)  # needs nothing else
    svg = page[page.index("<svg") : page.index("</svg>") + 6]
    ElementTree.fromstring(svg)
    assert "currentColor" in svg
    assert not re.search(r"#000000|#ffffff|#1b1b1f", svg)
    assert all(text in page for text in TEXTS)


def test_many_and_long_labels_stay_inside(tmp_path: Path):
    """The legend is below the axes: no label is cut off, however long and however many."""
    pytest.importorskip("matplotlib")
    from PIL import Image

    milestones = ",".join(f"{epoch}e" for epoch in range(1, 40))
    draw(tmp_path / "lr.png", curves_of(f"NSTEP(k0=[0.1,0.2], gamma=0.9, l=[[{milestones}]])", *TEXTS * 4))
    with Image.open(tmp_path / "lr.png") as image:
        assert image.width < 7.5 * 300
        pixels = np.asarray(image.convert("L"))
    assert pixels[:, [0, -1]].min() > 250
    assert pixels[[0, -1]].min() > 250


def test_colours_and_styles_differ_for_every_curve():
    assert MOST >= 12
    pairs = {(COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS)]) for i in range(MOST)}
    assert len(pairs) == MOST


@pytest.mark.parametrize(("epochs", "log"), [(True, True), (False, False), (False, True)])
@pytest.mark.parametrize("total_steps", [1, 30, 5_000, 10**9])
def test_axes_and_budgets(tmp_path: Path, epochs, log, total_steps):
    curves = curves_of("COS(k0=0.1, l=100%)", "FIX(k0=0)", "STEP(k0=3e-4, gamma=0.5, l=10%)", total_steps=total_steps)
    assert draw(tmp_path / "lr.svg", curves, epochs=epochs, log=log).startswith(b"<?xml")


def test_a_rate_of_0_alone(tmp_path: Path):
    assert draw(tmp_path / "lr.svg", curves_of("FIX(k0=0)"))
    with pytest.raises(UserError, match="log axis"):
        draw(tmp_path / "log.svg", curves_of("FIX(k0=0)"), log=True)


@pytest.mark.parametrize("name", ["lr.pdf", "lr", "lr.svg.gz"])
def test_unknown_suffix(tmp_path: Path, name):
    with pytest.raises(UserError, match=r"\.png, \.svg or \.html"):
        draw_policies(curves_of("FIX(0.1)"), tmp_path / name, epochs=True, log=False)
    assert not list(tmp_path.iterdir())


def test_too_many_and_none(tmp_path: Path):
    with pytest.raises(UserError, match=f"at most {MOST}"):
        draw(tmp_path / "lr.svg", curves_of("FIX(k0=0.1)") * (MOST + 1))
    with pytest.raises(UserError, match="no policy"):
        draw(tmp_path / "lr.svg", [])


def test_without_matplotlib(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("lr.svg", "lr.html"):
        assert draw(tmp_path / name, curves_of(*TEXTS))
    with pytest.raises(UserError, match=r"draw .svg or .html, or pip install .*\[plot\]"):
        draw_policies(curves_of("FIX(0.1)"), tmp_path / "lr.png", epochs=True, log=False)


def test_names_of_strangers_are_text(tmp_path):
    """For matplotlib half of a formula would be a traceback, a whole one another name; for SVG it is markup."""
    from lrensemble.report.drawing import AxisScale, Panel, Picture, Polyline
    from lrensemble.report.figures import draw as draw_picture

    name = r"a $\frac{ $ <b> & \$"
    panel = Panel(2, 2, AxisScale(0, 1), AxisScale(0, 1), [Polyline([0, 1], [0, 1], label=name)], title=name)
    for suffix in ("svg", "png") if find_spec("matplotlib") else ("svg",):
        draw_picture(tmp_path / f"x.{suffix}", Picture([[panel]]), title="t", summary="s", items=[])
        assert (tmp_path / f"x.{suffix}").stat().st_size > 1000
    texts = [e.text for e in ElementTree.parse(tmp_path / "x.svg").iter() if e.tag.endswith("text")]
    assert texts.count(name) == 2
