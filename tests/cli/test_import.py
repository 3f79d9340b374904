"""`lrensemble import` as people use it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Pool
from lrensemble.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    labels = {"val": np.arange(30) % 3, "test": np.arange(20) % 3}
    for split, y in labels.items():
        np.savetxt(f"{split}.csv", y, fmt="%d", header="label", comments="")
        np.save(f"{split}.npy", np.eye(3)[y] * 0.7 + 0.1)
    np.savez("net.npz", **{split: np.eye(3)[y] * 5 - 1 for split, y in labels.items()})
    return tmp_path


LABELS = ["--labels-val", "val.csv", "--labels-test", "test.csv"]


def test_import_and_the_rest_of_the_way(folder: Path, capsys):
    assert main(["import", "p", "net.npz", *LABELS, "--classes", "a,b,c", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    [member] = data["members"]
    assert (member["model"], member["new"], member["kinds"]["val"]) == ("net", True, "logits")
    assert main(["import", "p", "--model", "forest", "--val", "val.npy", "--test", "test.npy"]) == 0
    out = capsys.readouterr().out
    assert "p: 1 imported" in out
    assert "probabilities" in out
    assert main(["import", "p", "--model", "tree", "--seed", "4", "--val", "val.csv", "--test", "test.csv"]) == 0
    assert "labels" in capsys.readouterr().out
    assert main(["import", "p", "--kind", "auto", "net.npz"]) == 0  # a file after the options
    assert "p: 0 imported, 1 there already" in capsys.readouterr().out
    assert {m.record.spec.label for m in Pool.open("p").complete} == {"net", "forest", "tree"}
    for command in (["select", "p"], ["evaluate", "p"], ["ls", "p"], ["show", "p", member["id"]]):
        assert main(command) == 0
    assert "imported from" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["p", "net.npz"], "to make a pool the labels are needed"),
        (["p", *LABELS], "no predictions are named"),
        (["p", "nett.npz", *LABELS], "nett.npz does not exist"),
        (["p", "net.npz", "--labels-val", "val.csv"], "--labels-test is missing"),
        (["p", "net.npz", "--labels", "net.npz"], "labels are one number (or name) a row"),
        (
            ["p", "net.npz", *LABELS, "--kind", "probs"],
            "'probs' is not possible: Known: auto, labels, logits",
        ),
        (["p", "net.npz", *LABELS, "--kind", "probabilities"], "net.npz (val): row 0 has a sum of 2"),
        (["p", "net.npz", *LABELS, "--classes", "a"], "--classes a: names that differ"),
        (["p", "net.npz", *LABELS, "--seed", "-1"], "--seed: -1 is not possible"),
        (["p", "net.npz", *LABELS, "--policy", "COSS(0.1)"], "did you mean 'COS'"),
        (["p", "net.npz", *LABELS, "--modle", "x"], "did you mean '--model'"),
        (["p", "--val", "val.npy", "--test", "test.npy", *LABELS], "--model is missing"),
        (["p", "val.npy", *LABELS], "--val val.npy --test FILE"),
        ([".", "net.npz", *LABELS], ". exists and is not a pool"),
        (["net.npz", "net.npz"], "net.npz is not a pool"),
        (
            ["p", "net.npz", "--labels-val", "test.csv", "--labels-test", "val.csv"],
            "net.npz (val): 30 rows (3 columns), but test.csv has 20",
        ),
    ],
)
def test_bad_input(folder: Path, capsys, arguments, message):
    before = sorted(folder.rglob("*"))
    assert main(["import", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""
    assert sorted(folder.rglob("*")) == before
