"""Bad input is one line, nothing is executed, nothing is half-written, and the pool opens."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lrensemble import ArrayTask, Pool, UserError, adopt_checkpoints
from lrensemble.cli.main import main
from lrensemble.models.checkpoints import read_checkpoint
from tests.adopt import nets
from tests.adopt.conftest import CONFIG, MODEL


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("it was executed",))


def saved(content, name="bad.pt") -> str:
    torch.save(content, name)
    return name


def unlike(state):
    """Another architecture: a name more, one less, a shape that differs."""
    return {
        "1.weight": state["1.weight"][:5],
        "3.weight": state["3.weight"],
        "3.bias": state["3.bias"],
        "4.x": state["1.bias"],
    }


BAD = {
    "another architecture": (
        lambda state: saved(unlike(state)),
        r"bad.pt does not fit the model tests.adopt.nets:net \(missing: 1.bias; not known: 4.x; of another shape: "
        r"1.weight \(5, 64\) for \(12, 64\)\)",
    ),
    "another size": (
        lambda state: saved({**state, "1.bias": torch.zeros(3)}),
        r"does not fit the model .* \(of another shape: 1.bias \(3,\) for \(12,\)\)",
    ),
    "pickled code": (
        lambda state: saved({"state_dict": state, "x": Evil()}),
        r"more than tensors.*: not read: save model",
    ),
    "a whole model": (lambda state: saved(torch.nn.Linear(2, 2)), r"Linear\): not read: save model.state_dict"),
    "a plain pickle": (
        lambda state: Path("bad.pt").write_bytes(pickle.dumps(Evil())) and "bad.pt",
        "more than tensors",
    ),
    "nonsense": (lambda state: Path("bad.ckpt").write_bytes(b"\0" * 99) and "bad.ckpt", "bad.ckpt"),
    "cut off": (
        lambda state: Path("bad.pt").write_bytes(Path(saved(state)).read_bytes()[:-300]) and "bad.pt",
        "damaged|no file of torch.save",
    ),
    "no tensors": (lambda state: saved({"epoch": 3}), "it holds no weights"),
    "other class order": (
        lambda state: saved({**state, "3.weight": state["3.weight"].roll(1, 0), "3.bias": state["3.bias"].roll(1, 0)}),
        r"no better than chance \(10.0 %\): its classes seem to be in another order \(9, 0, 1, 2, 3, 4, 5, 6, 7, 8\), "
        r"with which it would be 6\d.\d %",
    ),
    "untrained": (
        lambda state: saved({name: torch.zeros_like(value) for name, value in state.items()}),
        "no better than chance .*: were its inputs normalised in another way",
    ),
    "missing": (lambda state: "none.pt", "none.pt does not exist"),
    "an empty folder": (lambda state: Path("empty").mkdir() or "empty", "no checkpoint in this folder"),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_line_and_nothing_is_written(kind, folder, plain, capsys):
    make, message = BAD[kind]
    name = make(plain[0].model.state_dict())
    with pytest.raises(UserError, match=message) as found:
        adopt_checkpoints("p", [name, "runs/run1.pt"], config=CONFIG, model=MODEL)
    assert "\n" not in str(found.value)
    assert not Path("p").exists()


def test_the_command_exits_with_2_and_the_pool_opens(folder, plain, capsys):
    Path("data.yaml").write_text("data: {name: digits, val_fraction: 0.25}\nmodel: tests.adopt.nets:net\n")
    adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model=MODEL)
    before = {path: path.read_bytes() for path in Path("p").rglob("*") if path.is_file()}
    name = saved(unlike(plain[1].model.state_dict()))
    assert main(["adopt", "p", name, "runs", "--config", "data.yaml"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.strip().splitlines()) == 1
    assert "does not fit" in captured.err and captured.err.strip().endswith("--skip-broken adopts the others")
    assert before == {path: path.read_bytes() for path in Path("p").rglob("*") if path.is_file()}
    assert main(["adopt", "p", name, "runs", "--config", "data.yaml", "--skip-broken"]) == 0
    assert "left out: bad.pt does not fit" in capsys.readouterr().err
    assert len(Pool.open("p").complete) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "tests.adopt.nets:nett"}, "did you mean 'net'"),
        ({"model": None}, "which model"),
        ({"config": None}, "p does not exist: to make a pool"),
        ({"config": {"data": "digitz"}}, "did you mean 'digits'"),
        ({"config": {"dat": "digits"}}, "data is missing"),
        ({"config": {"data": "digits", "modle": "x"}}, "unknown key 'modle': did you mean 'model'"),
        ({"policy": "COS(k0={lrr}, l=100%)"}, r"has no 'lrr': did you mean 'lr'"),
        ({"policy": "COZ(k0={lr})"}, "COS"),
        ({"study_name": "tune"}, "--study-name is of a storage: give --study too"),
        ({"study": "none.db"}, "none.db does not exist: name the file of a study"),
        ({"devices": "gpu"}, "unknown device"),
    ],
)
def test_options_that_are_wrong(folder, changes, message):
    with pytest.raises(UserError, match=message):
        adopt_checkpoints("p", ["runs/run0.pt"], **{"config": CONFIG, "model": MODEL, **changes})
    assert not Path("p").exists()


def test_a_pool_of_other_rows(folder):
    adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model=MODEL)
    other = {"data": {"name": "digits", "val_fraction": 0.3}}
    with pytest.raises(UserError, match=r"p is a pool of other data, or of another validation split"):
        adopt_checkpoints("p", ["runs/run1.pt"], config=other, model=MODEL)
    assert len(Pool.open("p").complete) == 1


def test_a_network_that_diverged_is_kept_as_diverged(folder, plain):
    saved({name: value * torch.nan for name, value in plain[0].model.state_dict().items()})
    _, [member] = adopt_checkpoints("p", ["bad.pt"], config=CONFIG, model=MODEL)
    assert member.record.status == "diverged"


def test_pipes_and_archives_that_grow(folder, plain, monkeypatch):
    monkeypatch.setattr("lrensemble.opening.SMALL", 1 << 20)
    os.mkfifo("pipe.pt")
    with pytest.raises(UserError, match=r"pipe.pt is a named pipe"):
        adopt_checkpoints("p", ["pipe.pt"], config=CONFIG, model=MODEL)
    saved(plain[0].model.state_dict())
    with zipfile.ZipFile("bad.pt") as given, zipfile.ZipFile("bomb.pt", "w", zipfile.ZIP_DEFLATED) as made:
        for entry in given.infolist():
            made.writestr(entry.filename, given.read(entry))
        made.writestr("archive/data/9", b"\0" * (3 << 20))
    with pytest.raises(UserError, match="are not unpacked here"):
        adopt_checkpoints("p", ["bomb.pt"], config=CONFIG, model=MODEL)


def test_a_bag_of_options_is_taken_and_nothing_else(folder, plain):
    """timm's checkpoints hold an argparse.Namespace."""
    state = plain[0].model.state_dict()
    saved({"state_dict": state, "args": argparse.Namespace(lr=0.3, seed=5), "epoch": 2})
    _, [member] = adopt_checkpoints("p", ["bad.pt"], config=CONFIG, model=MODEL)
    assert (member.record.spec.notes["lr"], member.record.spec.seed) == (0.3, 5)
    saved({"state_dict": state, "args": argparse.Namespace(lr=Evil())})
    with pytest.raises(UserError, match="more than tensors"):
        adopt_checkpoints("p", ["bad.pt"], model=MODEL)


def test_what_lies_beside_and_cannot_be_read_is_named(folder, plain):
    said: list[str] = []
    Path("runs/run0.yaml").write_text("lr: !!python/object/apply:os.system [false]\n")
    Path("runs/run0.csv").write_bytes(b"\xff\xfe\x00")
    _, [member] = adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model=MODEL, tell=said.append)
    assert len(said) == 2 and all(text.startswith("left out: runs/run0.") for text in said)
    assert member.record.spec.policy is None and member.record.spec.label == "p/runs/run0.pt".replace(
        "p/", f"{folder.name}/"
    )


def test_a_log_of_several_checkpoints_is_said(folder, plain):
    """Of one run, or the last of four that wrote it?"""
    said: list[str] = []
    Path("runs/metrics.csv").write_text("step,lr\n1,0.5\n2,0.5\n")
    Path("params.json").write_text('{"clip": 5}')
    adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model=MODEL, tell=said.append)
    assert said == []  # one checkpoint: its own
    _, members = adopt_checkpoints("p", ["runs"], config=CONFIG, model=MODEL, tell=said.append)
    assert [one.new for one in members] == [False, True, True, True] and members[2].record.spec.notes["clip"] == 5
    [line] = said
    assert line.startswith("params.json, runs/metrics.csv: read for each of 4 checkpoints (runs/run0.pt, runs/run1.pt,")
    assert "\n" not in line


class Halves(ArrayTask):
    """Questions with two choices each, of four places."""

    def choices(self, name):
        places = self.labels(name)[:, None]
        return np.isin((np.arange(4) - places) % 4, (0, 1))


def test_chance_is_that_of_the_choices(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    y = np.arange(200) % 4
    task = Halves(**{split: {"x": np.ones((200, 3), np.float32), "y": y} for split in ("train", "val", "test")})
    model = torch.nn.Linear(3, 4)
    torch.save(model.state_dict(), "net.pt")
    with pytest.raises(UserError, match=r"no better than chance \(50.0 %\)"):
        adopt_checkpoints("p", ["net.pt"], task=task, model=lambda num_classes: torch.nn.Linear(3, num_classes))


def fragile(num_classes):
    class Fragile(nets.Wrapped):
        def forward(self, x):
            raise OSError("no such sensor")

    return Fragile(num_classes)


def test_a_model_that_raises_is_one_line(folder):
    with pytest.raises(UserError, match=r"run0.pt: .* rows of val, raises OSError: no such sensor \(test_bad.py, line"):
        adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model=fragile)
    assert not Path("p").exists()


def test_an_accuracy_that_the_log_contradicts_is_said(folder, plain):
    said: list[str] = []
    state = plain[0].model.state_dict()
    state["3.bias"] = state["3.bias"] + torch.tensor([9.0] * 2 + [0.0] * 8)
    saved(state, "runs/run0.pt")
    adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model=MODEL, tell=said.append)
    assert any("% here" in text and "in its log" in text for text in said)


def test_old_files_that_are_cut_off_anywhere(folder, plain):
    torch.save(plain[0].model.state_dict(), "whole.pt", _use_new_zipfile_serialization=False)
    whole = Path("whole.pt").read_bytes()
    for size in range(1, 700, 7):
        Path("bad.pt").write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"bad.pt"):
            read_checkpoint(Path("bad.pt"))


def test_a_part_that_is_no_mapping(folder):
    Path("hf").mkdir()
    torch.save({"1.bias": torch.zeros(12)}, "hf/a.bin")
    torch.save([torch.zeros(12)], "hf/b.bin")
    Path("hf/pytorch_model.bin.index.json").write_text('{"weight_map": {"1.bias": "a.bin", "3.bias": "b.bin"}}')
    with pytest.raises(UserError, match=r"hf/b.bin.*a part of a checkpoint is tensors by name"):
        adopt_checkpoints("p", ["hf"], config=CONFIG, model=MODEL)


def test_probabilities_are_no_scores(folder, plain):
    """Softmax of a softmax has the right order of the classes, and wrong probabilities."""
    with pytest.raises(UserError, match=r"run0.pt: its model gives probabilities, scores are needed"):
        adopt_checkpoints("p", ["runs/run0.pt"], config=CONFIG, model="tests.adopt.nets:with_softmax")
    assert not Path("p").exists()


def test_an_accuracy_far_above_the_log_is_said(folder, plain):
    said: list[str] = []
    lines = Path("runs/run1.csv").read_text().splitlines()
    at = lines[0].split(",").index("val_acc")
    cells = [line.split(",") for line in lines[1:]]
    Path("runs/run1.csv").write_text(
        "\n".join([lines[0], *(",".join([*row[:at], row[at] and "0.5", *row[at + 1 :]]) for row in cells)])
    )
    adopt_checkpoints("p", ["runs/run0.pt", "runs/run1.pt"], config=CONFIG, model=MODEL, tell=said.append)
    [text] = [text for text in said if "trained on some of these rows" in text]
    assert "run1.pt" in text and "at best 50.0 % in its log" in text
