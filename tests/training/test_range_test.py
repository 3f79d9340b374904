"""The range test of a configuration: it trains as training does, leaves nothing behind, and finds LRs that train."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from lrensemble import Config, train_pool
from lrensemble.cli.main import main
from lrensemble.policies.sweep import HIGH, LOW, RangeTest, Suggestion, SweepCurve
from lrensemble.report.range_plot import draw_range_test
from lrensemble.training import make_plan
from lrensemble.training.engine import Engine
from lrensemble.training.loop import Run
from lrensemble.training.range_test import range_test
from tests.training.runs import digits, specs_of

CONFIG = Path(__file__).parents[2] / "configs" / "digits.yaml"


@pytest.fixture(scope="module")
def plan(config: Config, tmp_path_factory: pytest.TempPathFactory):
    return make_plan(config, tmp_path_factory.mktemp("range") / "pool")


def test_it_finds_lrs_that_train(plan, tmp_path):
    def states():
        return torch.random.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002

    before = states()
    found = range_test(plan.specs[0], plan.task, device="cpu")
    assert states() == before
    assert not plan.pool.exists()
    middle = found.suggestions["middle"]
    assert LOW < found.low < middle.low <= found.lr <= middle.high < found.high < HIGH
    assert len({str(curve.loss) for curve in found.curves}) == 3  # every repeat has weights of its own
    assert range_test(plan.specs[0], plan.task, device="cpu") == found
    # Independent of it: real runs inside the range are better than far below and far above.
    lrs = [found.low / 300, found.lr, found.high * 300]
    config = plan.config.model_copy(
        update={"policies": tuple(f"FIX(k0={lr:.6g})" for lr in lrs), "control": False, "seeds": (0,)}
    )
    pool = train_pool(config, tmp_path / "pool", workers=1, threads=1, devices="cpu")
    accuracy = {m.record.spec.policy: (m.record.metrics.get("val") or {}).get("accuracy") or 0 for m in pool.members}
    low, good, high = (accuracy[f"FIX(k0={float(f'{lr:.6g}'):g})"] for lr in lrs)
    assert good > 0.8 and good > low + 0.2 and good > high + 0.2


@pytest.mark.parametrize(
    ("overrides", "engine"),
    [
        (["training.augment=[crop,flip]", "training.mixup=0.3", "training.clip=1.0"], Engine()),
        (["optimizer={name: AdamW, no_decay: true, groups: [{params: weight, lr: 3}]}"], Engine(precision="bfloat16")),
    ],
)
def test_its_losses_are_those_of_training(overrides, engine, monkeypatch):
    """Bit for bit those of a run under the policy RANGE: augmentation, engine, optimizer, over the ends of epochs."""
    [spec] = specs_of(["FIX(0.1)"], *overrides)
    task, crops = digits().task, []
    augment = type(task).augment
    monkeypatch.setattr(type(task), "augment", lambda *args: crops.append(1) or augment(*args))
    found = range_test(spec, task, engine=engine, steps=40, high=1e-2, repeats=1, device="cpu")
    assert len(crops) == 41 and len(found.curves[0].loss) == 40
    rows = engine.rows(task, torch.device("cpu"))
    policy = "RANGE(k0=1e-5, k1=0.01, l=40, shape=exp)"
    run = Run(spec.model_copy(update={"policy": policy}), "range test 0", rows, engine)
    losses = []
    while len(losses) < 41:
        for batch in run.batches():
            losses.append(float(run.step(batch)[0]))
        run.epoch += 1

    assert losses[1:41] == found.curves[0].loss


def test_it_stops_where_the_loss_explodes(plan):
    made = range_test(plan.specs[0], plan.task, steps=60, high=1e6, repeats=1, device="cpu")
    assert len(made.curves[0].lr) < 60 and made.suggestions


def command(capsys, *words):
    code = main(["lr-find", str(CONFIG), "training.epochs=1", "--device", "cpu", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_answers_first(capsys, tmp_path):
    picture = tmp_path / "lr.svg"
    code, out, _ = command(capsys, "-o", str(picture))
    assert code == 0 and out.startswith("peak LR 0.0") and "steepest" in out and "KNEE(k0=0.0" in out
    assert picture.read_text().startswith("<?xml") and list(tmp_path.iterdir()) == [picture]
    code, out, _ = command(capsys, "--format", "json", "--repeats", "2", "--steps", "60")
    [test] = json.loads(out)["tests"]
    assert code == 0 and test["lr"] == test["suggestions"]["middle"]["lr"] and len(test["curves"]) == 2
    assert f"{test['lr']:.1g}" in ("0.02", "0.03", "0.04", "0.05", "0.06", "0.07", "0.08")
    code, out, _ = command(capsys, "--high", "2e-5", "--low", "1e-5", "--repeats", "1")
    assert code == 1 and out.startswith("no LR for mlp(hidden=[64])") and "more steps, or LRs from another range" in out


def test_a_grid_is_a_test_each(capsys):
    code, out, _ = command(capsys, "grid={model.hidden: [[8],[16]]}", "--repeats", "1", "--steps", "60")
    assert code == 0 and out.count("peak LR") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--low", "1", "--high", "0.1"], "a sweep from LR 1 to 0.1 in 200 steps is not possible"),
        (["--low", "-1"], "-1 is not possible: a number from 1e-12"),
        (["--steps", "5"], "5 is not possible: a whole number from 10"),
        (["-o", "lr.txt"], "cannot draw .txt: use .png, .svg or .html"),
        (["-o", "lr.svg", "grid={model.hidden: [[8],[16]]}"], "--output draws one test, the configuration has 2"),
        (["--stesp", "5"], "did you mean '--steps'"),
        (["model.name=nothing"], "unknown model 'nothing'"),
    ],
)
def test_bad_input(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(capsys, *words)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_pictures(tmp_path):
    curve = SweepCurve([0.01, 0.1, 1.0], [2.0, 1.0, 3.0], [2.0, 1.5, 2.5], {"steepest": 0.05}, 0.01, 1.0)
    test = RangeTest((curve,), {"steepest": Suggestion(0.05, 0.04, 0.06, 1)}, 0.01, 1.0, "")
    for name in ("a.png", "a.svg", "a.html"):
        draw_range_test(test, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "a.html").read_text()
    assert "steepest: 0.05 (0.04 to 0.06)" in page and "LR range test (1 sweeps)" in page
