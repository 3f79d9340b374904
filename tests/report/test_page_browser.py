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
  $("#filter").value = "k0=0.02,";
  $("#filter").dispatchEvent(new Event("input"));
  out.filter = $(".tools output").textContent;
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
    (up, rising), (down, falling) = out["sorted"]
    assert (up, down) == ("ascending", "descending")
    assert rising == sorted(rising) == falling[::-1]
    tip, live, lit = out["chart"]
    assert re.match(r"\d COS\(", tip)
    assert live == f"1 of 5: {tip}"
    assert lit >= 2  # the line, and the member's row
    assert re.fullmatch(r"members 3 and 1: [\d.]+ % of the rows", out["heat"])
    assert out["closed"]
    assert out["filter"] == "1 of 5"


def test_nothing_scrolls_sideways(text, tmp_path):
    (tmp_path / "page.html").write_text(text)
    (tmp_path / "widths.html").write_text(WIDTHS)
    for width, needed in run(tmp_path / "widths.html", tmp_path).items():
        assert needed <= int(width)
