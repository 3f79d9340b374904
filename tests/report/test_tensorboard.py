"""Event files say what the histories say, as TensorBoard itself reads them."""

from __future__ import annotations

import json
import math
import os
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Pool, UserError
from lrensemble.cli.main import main
from lrensemble.report.tensorboard import run_name, write_events

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(path: Path):
    events = accumulator.EventAccumulator(str(path), size_guidance={accumulator.SCALARS: 0})
    events.Reload()
    return events


def test_scalars_of_every_member(pool: Pool, tmp_path: Path):
    runs, skipped = write_events(pool, tmp_path / "tb")
    assert skipped == []
    assert len(runs) == 8
    assert {run.member for run in runs} == {m.id for m in [*pool.members, *pool.control.members]}
    member = pool.members[0]
    (run,) = [run for run in runs if run.member == member.id and "control" not in run.path.parts]
    assert run.path.parent == tmp_path / "tb"
    events, history = read(run.path), member.history()
    for key, tag in (
        ("lr", "lr"),
        ("epoch", "epoch"),
        ("train_loss", "loss/train"),
        ("val_loss", "loss/val"),
        ("train_accuracy", "accuracy/train"),
        ("val_accuracy", "accuracy/val"),
    ):
        found = events.Scalars(tag)
        assert [event.step for event in found] == [line["step"] for line in history]
        np.testing.assert_allclose([event.value for event in found], [line[key] for line in history], rtol=1e-6)
    first, last = events.Scalars("lr")[0], events.Scalars("lr")[-1]
    assert last.wall_time - first.wall_time == pytest.approx(history[-1]["seconds"] - history[0]["seconds"], abs=1e-5)
    assert last.wall_time == pytest.approx(datetime.fromisoformat(member.record.finished).timestamp(), abs=1e-3)
    text = events.Tensors("member/text_summary")[0].tensor_proto.string_val[0].decode()
    assert f"| policy | {member.record.spec.policy} |" in text
    plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert member.record.spec.policy.encode() in plugin


def test_unfinished_members(tmp_path: Path):
    pool = Pool.create(tmp_path / "p", labels={"val": [0, 1], "test": [1]})
    with pytest.raises(KeyboardInterrupt), pool.member(model="m", policy="FIX(0.1)", notes=["x"]) as member:
        member.log(epoch=1, val_loss=2.0, gpu_memory=5)
        member.log(epoch=2, val_loss=float("nan"), gpu_memory=6)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), pool.member(model="nothing yet"):
        raise KeyboardInterrupt
    path = pool.find(member.id).path / "history.jsonl"
    os.utime(path, (1e9, 1e9))
    [run], [line] = write_events(pool, tmp_path / "tb")
    assert line.endswith("(planned) has no history")
    found = read(run.path).Scalars("loss/val")
    assert [event.step for event in found] == [1, 2]
    assert found[0].value == 2
    assert math.isnan(found[1].value)
    assert found[1].wall_time == pytest.approx(1e9)
    assert [event.value for event in read(run.path).Scalars("gpu_memory")] == [5, 6]


def test_again_replaces_and_touches_nothing_else(pool: Pool, tmp_path: Path):
    runs, _ = write_events(pool, tmp_path / "tb")
    mine = runs[0].path / "notes.txt"
    mine.write_text("mine")
    other = tmp_path / "tb" / "events.out.tfevents.1.other"
    other.write_text("of another program")
    write_events(pool, tmp_path / "tb")
    assert len(list(runs[0].path.glob("events*"))) == 1
    assert len(read(runs[0].path).Scalars("lr")) == 4
    assert (mine.read_text(), other.read_text()) == ("mine", "of another program")


def test_names_of_runs_are_names_of_folders(pool: Pool):
    record = pool.members[0].record
    nested = "WARMUP(" * 30 + "FIX(k0=0.1)" + ", l=5e)" * 30
    for policy in (record.spec.policy, nested, None):
        changed = record.model_copy(update={"spec": record.spec.model_copy(update={"policy": policy})})
        name = run_name(changed)
        assert len(name.encode()) < 200
        assert "/" not in name
        assert " " not in name
        assert name.endswith(record.id)


def test_damaged_members_are_left_out(pool: Pool, tmp_path: Path):
    first, second = pool.members[:2]
    first.record_path.write_text("{")
    (second.path / "history.jsonl").write_text('{"step": 1}\n{"st')
    runs, skipped = write_events(pool, tmp_path / "tb")
    assert len(runs) == 6
    assert len(skipped) == 2
    assert all("cut off or damaged" in line for line in skipped)


def test_the_command(pool: Pool, capsys):
    assert main(["tensorboard", str(pool.path)]) == 0
    folder = pool.path / "tensorboard"
    assert f"{folder}: 8 runs\nNext: tensorboard --logdir {folder}" in capsys.readouterr().out
    assert main(["tensorboard", str(pool.path), "-o", str(pool.path / "x"), "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 8
    assert len(Pool.open(pool.path).complete) == 4  # a folder more in the pool disturbs nobody
    assert main(["select", str(pool.path)]) == 0


def test_bad_input(pool: Pool, tmp_path: Path, capsys, monkeypatch):
    assert main(["tensorboard", str(tmp_path)]) == 2
    (tmp_path / "file").write_text("")
    assert main(["tensorboard", str(pool.path), "-o", str(tmp_path / "file")]) == 2
    err = capsys.readouterr().err
    assert "is not a pool" in err
    assert "file" in err.splitlines()[1]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install .*\[tensorboard\]"):
        write_events(pool, tmp_path / "tb")
