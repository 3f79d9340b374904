"""A configuration is counted before it is expanded; what YAML can hide ends in one line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lrensemble import UserError, load_config
from lrensemble.cli.main import main
from lrensemble.training import make_plan
from tests.conftest import tiny_config

VALUES = ",".join(["0.1"] * 300)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policies": [f"TRI(k0=[{VALUES}], k1=[{VALUES}], l=[1e,2e,3e])"]}, "270,000 policies x 1 seeds"),
        ({"policies": ["FIX(k0=0.1)"], "seeds": 3_000_000_000}, "seeds = 3000000000: at most 100,000"),
        ({"policies": ["FIX(k0=0.1)"], "seeds": 10**5000}, "at most 100,000 seeds"),
        (
            {"policies": [f"FIX(k0=[{VALUES}])"], "seeds": 1000},
            "300 policies x 1,000 seeds x 1 of the grid are more than",
        ),
        ({"policies": [{"sample": "FIX(k0=log(1e-3, 1))", "n": 100_000}], "seeds": 100_000}, "100,?000 policies x"),
        ({"grid": {f"model.a{i}": list(range(10)) for i in range(12)}}, "x 1,000,000,000,000 of the grid"),
        ({"training": {"epochs": 10**5000}}, "training.epochs"),
        ({"training": {"epochs": "9**9"}}, "training.epochs = '9"),
        ({"training": {"epochs": 4, "batch_size": 10**30}}, "training.batch_size"),
        ({"training": {"epochs": 4, "mixup": float("inf")}}, "training.mixup"),
        ({"seeds": [10**40]}, "seed"),
        ({"policies": ["FIX(" * 100_000]}, "inside each other"),
    ],
)
def test_what_is_too_much_is_counted_first(changes, message):
    start = time.process_time()
    with pytest.raises(UserError, match=message) as caught:
        load_config(tiny_config(**changes))
    assert time.process_time() - start < 5
    assert len(str(caught.value)) < 2000


LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "aliases"),
        ("a: &a [*a]", "an alias inside of what it stands for"),
        ("a: &a {b: *a}", "an alias inside of what it stands for"),
        ("a: " + "[" * 20_000, "nested too deeply"),
        ("a: " + "{b: " * 20_000, "nested too deeply"),
        ("a: " + "9" * 5000, "not YAML"),
        ("training: {epochs: 0x" + "f" * 5000 + "}", "training"),
        ("training: {epochs: 1e999999}", "training"),
        ("x" * 600_000, "at most 524,288"),
        ("a: !!python/object/apply:os.system [true]", "not YAML"),
        ("a: 2001-99-99", "not YAML"),
        ("a: !!int x", "not YAML"),
        ("a: !!binary '='", ""),
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_bombs_in_yaml(tmp_path: Path, text, message, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(UserError, match=message) as caught:
        load_config(path)
    assert time.process_time() - start < 20
    assert len(str(caught.value)) < 2000
    assert main(["train", str(path), "--dry-run"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_anchors_are_fine(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({**tiny_config(), "policies": []})[:-1] + ', "seeds": &s [0, 1]}')
    config = load_config(path, ["policies=[FIX(k0=0.1)]", "control=false"])
    assert config.seeds == (0, 1)


def test_a_large_configuration_of_a_pool_is_read(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tiny_config(policies=["FIX(k0=0.1)"], seeds=list(range(20_000))), indent=200))
    assert path.stat().st_size > 2_000_000
    assert len(load_config(path).seeds) == 20_000


def test_members_of_runs_are_counted():
    many = [f"{i}e" for i in range(1, 999)]
    config = load_config(tiny_config(training={"epochs": 1000, "batch_size": 64}, snapshots=many))
    config = config.model_copy(update={"seeds": tuple(range(60))})
    with pytest.raises(UserError, match="more than 100,000 members with the snapshots"):
        make_plan(config, Path("nowhere"))
    long = load_config(tiny_config(training={"epochs": 1_000_000, "batch_size": 16}, snapshots="cycles"))
    with pytest.raises(UserError, match="at most 20,000,000"):
        make_plan(long, Path("nowhere"))


def test_a_pipe_is_no_configuration(tmp_path: Path):
    import os

    os.mkfifo(tmp_path / "c.yaml")
    with pytest.raises(UserError, match="named pipe"):
        load_config(tmp_path / "c.yaml")


def test_a_state_that_a_busy_machine_cannot_read_is_not_thrown_away(tmp_path: Path, monkeypatch):
    import torch

    from lrensemble.errors import MachineError
    from lrensemble.pool import Member
    from lrensemble.training.state import read_state, write_state

    (tmp_path / "state.pt").write_bytes(b"cut off")
    with pytest.warns(UserWarning, match="is damaged or of another run"):
        assert read_state(Member(tmp_path), "cpu") is None

    write_state(Member(tmp_path), {"epoch": 1})
    assert read_state(Member(tmp_path), "cpu") == {"epoch": 1}

    def load(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(MachineError, match="nothing is damaged"):
        read_state(Member(tmp_path), "cpu")
