"""`lrensemble policies`: list, show, plot, fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lrensemble import load_config, train_pool
from lrensemble.cli.main import main
from lrensemble.policies import ALIASES, CONTROLS, FUNCTIONS, Policy, find_definition
from tests.conftest import tiny_config

BLOCKS = set("▁▂▃▄▅▆▇█")


def said(capsys, *arguments: str) -> str:
    assert main(["policies", *arguments]) == 0
    return capsys.readouterr().out


def test_list_has_every_policy(capsys):
    out = said(capsys, "list")
    assert f"{len(FUNCTIONS)} policies" in out
    assert all(name in out for name in (*FUNCTIONS, *ALIASES))
    assert "k0, gamma, l, [k1]" in out
    data = json.loads(said(capsys, "list", "--format", "json"))["policies"]
    assert [facts["name"] for facts in data] == [*FUNCTIONS, *ALIASES, *CONTROLS]
    step = next(facts for facts in data if facts["name"] == "STEP")
    assert [p["name"] for p in step["parameters"] if p["required"]] == ["k0", "gamma", "l"]
    assert step["parameters"][-1]["default"] == "0"


@pytest.mark.parametrize("name", [*FUNCTIONS, *ALIASES])
def test_show(name, capsys):
    out = said(capsys, "show", name.lower())
    definition = find_definition(name)
    assert definition.source in out
    assert all(p.meaning in out for p in definition.parameters)
    example = json.loads(said(capsys, "show", name, "--format", "json"))["example"]
    assert example in out
    assert np.isfinite(Policy.parse(example).bind(steps_per_epoch=100, total_steps=10_000)(np.arange(10_000))).all()
    assert set(out) & BLOCKS


def test_show_a_controller(capsys):
    out = said(capsys, "show", "plateau")
    assert "Example: PLATEAU(k0=0.1). What it does is seen in training only" in out
    assert not set(out) & BLOCKS


def test_plot_in_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    out = said(capsys, "plot", "COS(k0=[0.05, 0.1], l=100%)", "--budget", "20e", "FIX(k0=0.3)", "FIX(k0=0.3)")
    assert "over 20 epochs of 100 steps" in out
    lines = out.splitlines()[1:]
    assert lines[::2] == ["COS(k0=0.05, l=100%)", "COS(k0=0.1, l=100%)", "FIX(k0=0.3)"]
    assert lines[5] == f"  {'█' * 60}  0.3 to 0.3"
    assert all(len(set(line) & BLOCKS) == 8 for line in (lines[1], lines[3]))


@pytest.mark.parametrize("suffix", ["png", "svg", "html"])
def test_plot_into_a_file(suffix, tmp_path: Path, capsys):
    if suffix == "png":
        pytest.importorskip("matplotlib")
    path = tmp_path / "new" / f"lr.{suffix}"
    out = said(
        capsys, "plot", "COS(k0=0.1, l=100%)", "TRI(0.1, 0.01, 5e)", "--budget", "5000", "--log", "-o", str(path)
    )
    assert out.strip() == f"{path}: 2 policies over 5,000 steps"
    assert path.stat().st_size > 1000
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: ACTION"),
        (["lst"], "did you mean 'list'"),
        (["show", "TRY"], "did you mean 'TRI'"),
        (["plot"], "required: POLICY"),
        (["plot", "COSS(0.1)"], "did you mean 'COS'"),
        (["plot", "FIX(0.1)", "--bugdet", "3"], "did you mean '--budget'"),
        (["plot", "FIX(0.1)", "--budget", "50%"], "budget = 50% is not possible"),
        (["plot", "FIX(0.1)", "--budget", "soon"], "budget = soon is not possible"),
        (["plot", "FIX(0.1)", "--budget", "0"], "at least one step"),
        (["plot", "FIX(0.1)", "--budget", "-5e"], "--budget"),
        (["plot", "FIX(0.1)", "--budget", "0.001e"], "at least one step"),
        (["plot", "FIX(0.1)", "--budget", "1e300"], "budget = 1e300 is not possible"),
        (["plot", "FIX(0.1)", "--budget", "1e12", "--steps-per-epoch", "0"], "--steps-per-epoch: 0 is not possible"),
        (["plot", "FIX(0.1)", "-o", "lr.pdf"], ".png, .svg or .html"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(["policies", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert message in captured.err


def test_neither_list_nor_show_loads_torch_or_matplotlib():
    program = (
        "import sys; from lrensemble.cli.main import main\n"
        "main(['policies', 'list']); main(['policies', 'show', 'TRI'])\n"
        "heavy = {'torch', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_fit(capsys, tmp_path):
    config = tiny_config(policies=["LRTUNER()", "FIX(0.1)"], control=False)
    pool = train_pool(load_config(config), tmp_path / "pool", workers=1, threads=1)
    members = {m.record.spec.policy: m.record for m in pool.complete}
    tuned, picture = members["LRTUNER()"], tmp_path / "trace.svg"
    out = said(capsys, "fit", str(pool.path), tuned.id[:6], "-o", str(picture))
    assert f"LRTUNER() of member {tuned.id}: nearest is" in " ".join(out.split()) and picture.exists()
    found = json.loads(said(capsys, "fit", str(pool.path), tuned.id, "--format", "json"))
    assert found["schedule"] == "LRTUNER()" and found["nearest"][0]["error"] < 0.02
    assert main(["policies", "fit", str(pool.path), members["FIX(k0=0.1)"].id]) == 2
    assert "has no trace of a controller (FIX(k0=0.1))" in capsys.readouterr().err
