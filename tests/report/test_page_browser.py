"""The page in a browser: sorting, keyboard, and no sideways scrolling from 360 to 1600 pixels."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lrensemble import select_teams
from lrensemble.report.page import page, report_info
from tests.conftest import PATIENCE
from tests.report.pools import synthetic_pool

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

USE = """<script>
addEventListener("load", () => {
  const out = {}, $ = (selector) => document.querySelector(selector);
  const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const heads = [...document.querySelectorAll("#member-table thead th")];
  const column = heads.findIndex((head) => head.textContent.startsWith("Test accuracy"));
  const exact = (row) => Number(row.cells[column].querySelector("data").value);
  const values = () => [...$("#member-table").tBodies[0].rows].map(exact);
  out.sorted = [1, 2].map(() => (heads[column].querySelector("button").click(), [heads[column].ariaSort, values()]));
  press($("svg[data-explore]"), "ArrowRight");
  out.chart = [$("#tip").textContent, $("#live").textContent, document.querySelectorAll(".hot").length];
  press($(".heat .cells"), "ArrowDown");
  out.heat = $("#live").textContent;
  press($(".heat .cells"), "Escape");
  out.closed = $("#tip").hidden;
  const lit = () => document.querySelectorAll(".hot").length;
  press($("svg[data-explore]"), "Enter");
  $("svg[data-explore]").dispatchEvent(new Event("blur"));
  out.pinned = lit();
  press($("svg[data-explore]"), "Escape");
  out.released = lit();
  const plot = $("#training svg[data-explore]"), legend = $("#training .key button");
  out.legend = [legend.ariaPressed];
  legend.click();
  press(plot, "Home");
  out.legend.push(legend.ariaPressed, plot.querySelectorAll(".team:not(.off)").length, $("#live").textContent);
  $("#filter").value = "k0=0.02,";
  $("#filter").dispatchEvent(new Event("input"));
  out.filter = $(".tools output").textContent;
  document.body.dataset.out = JSON.stringify(out);
});
</script>"""
HINTS = """<body><script>
const frame = Object.assign(document.createElement("iframe"), { src: "page.html", style: "width:600px;height:900px" });
frame.onload = () => setTimeout(() => {
  const lines = [...frame.contentDocument.querySelectorAll("#teams .more")];
  const out = lines.map((line) => line.hidden ? "" : line.textContent);
  document.body.dataset.out = JSON.stringify(out);
}, 500);
document.body.append(frame);
</script></body>"""
AXE = """<script>
axe.run(document, { resultTypes: ["violations"] }).then((found) => {
  const out = found.violations.map((v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html.slice(0, 120))]);
  document.body.dataset.out = JSON.stringify(out);
});
</script>"""
WIDTHS = """<body><script>
const widths = [360, 800, 1600], out = {};
Promise.all(widths.map((width) => new Promise((done) => {
  const style = `width:${width}px;height:900px;border:0`;
  const frame = Object.assign(document.createElement("iframe"), { src: "page.html", style });
  frame.onload = () => { out[width] = frame.contentDocument.documentElement.scrollWidth; done(); };
  document.body.append(frame);
}))).then(() => { document.body.dataset.out = JSON.stringify(out); });
</script></body>"""


def run(path: Path, tmp_path: Path) -> dict:
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--allow-file-access-from-files", "--virtual-time-budget=5000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    [found] = re.findall(r'data-out="([^"]*)"', done.stdout)
    return json.loads(html.unescape(found))


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    pool = synthetic_pool(tmp_path_factory.mktemp("browser") / "p", 5, rows=50)
    select_teams(pool, ["greedy", "all", "top-k"])
    return page(report_info(pool))


def test_sorting_filtering_and_the_keyboard(text, tmp_path):
    (tmp_path / "page.html").write_text(text.replace("</body>", f"{USE}</body>"))
    out = run(tmp_path / "page.html", tmp_path)
    (down, falling), (up, rising) = out["sorted"]  # the best first
    assert (down, up) == ("descending", "ascending")
    assert rising == sorted(rising) == falling[::-1]
    tip, live, lit = out["chart"]
    assert re.match(r"\d COS\(", tip)
    assert live == f"1 of 5: {tip}"
    assert lit >= 2  # the line, and the member's row
    assert re.fullmatch(r"members 3 and 1: [\d.]+ % of the rows", out["heat"])
    assert out["closed"]
    assert out["pinned"] == out["chart"][2]  # a click keeps the member lit, Escape lets it go
    assert out["released"] == 0
    before, after, drawn, said = out["legend"]
    assert (before, after, drawn) == ("true", "false", 0)
    assert 1 <= int(re.match(r"1 of (\d)", said)[1]) < 5
    assert out["filter"] == "1 of 5"


def test_nothing_scrolls_sideways(text, tmp_path):
    (tmp_path / "page.html").write_text(text)
    (tmp_path / "widths.html").write_text(WIDTHS)
    for width, needed in run(tmp_path / "widths.html", tmp_path).items():
        assert needed <= int(width)


def test_tables_that_scroll_name_the_columns_that_are_not_seen(text, tmp_path):
    (tmp_path / "page.html").write_text(text)
    (tmp_path / "hints.html").write_text(HINTS)
    out = run(tmp_path / "hints.html", tmp_path)
    assert any(re.fullmatch(r"scroll right for \d more columns: .*Brier.* \u2192", line) for line in out), out


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(text, tmp_path, theme):
    axe = pytest.importorskip("axe_core_python", reason="axe-core is not installed")
    source = (Path(axe.__file__).parent / "axe.min.js").read_text()
    if theme == "dark":
        text = text.replace("@media screen and (prefers-color-scheme: dark)", "@media screen")
    (tmp_path / "page.html").write_text(text.replace("</body>", f"<script>{source}</script>{AXE}</body>"))
    assert run(tmp_path / "page.html", tmp_path) == []
