"""Trackers get the histories while members train, by the names of their members, and what fails there stops nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lrensemble import UserError, load_config, train_pool
from lrensemble.cli.main import main
from lrensemble.report import trackers
from lrensemble.report.tensorboard import run_name
from lrensemble.report.trackers import Tracker
from lrensemble.training.watcher import Watcher
from tests.conftest import tiny_config

FEW = {"policies": ["FIX(k0=[0.02, 0.1])"], "control": False}


class Told(Watcher):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, pool, members, finished) -> None:
        self.calls.append("start")

    def member_done(self, record) -> None:
        self.calls.append("done")

    def stop(self) -> None:
        self.calls.append("stop")


def trained(tmp_path: Path, where: str, watcher: Watcher | None = None, **changes):
    tracker = Tracker(where, watcher)
    return train_pool(
        load_config(tiny_config(**FEW | changes)), tmp_path / "p", workers=1, threads=1, devices="cpu", watcher=tracker
    )


def test_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    told = Told()
    pool = trained(tmp_path, f"tensorboard:{tmp_path / 'tb'}", told)
    assert told.calls == ["start", "done", "done", "stop"]
    assert {path.name for path in (tmp_path / "tb").iterdir()} == {run_name(m.record) for m in pool.members}
    for member in pool.members:
        events = accumulator.EventAccumulator(str(tmp_path / "tb" / run_name(member.record)))
        events.Reload()
        scalars = events.Scalars("accuracy/val")
        assert [(e.step, e.value) for e in scalars] == [
            (line["step"], pytest.approx(line["val_accuracy"], abs=1e-6)) for line in member.history()
        ]


class Kept:
    """A tracker that keeps what it gets, in its order."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.events = fails, []

    def __call__(self, pool, record):
        self.events.append(("open", record.id, record.status))
        kept, id_ = self, record.id

        class Run:
            def log(self, lines):
                if kept.fails:
                    raise OSError("no space left")
                kept.events.append(("log", id_, len(lines)))

            def end(self, record):
                kept.events.append(("end", id_, record.status))

        return Run()


def test_lines_come_while_a_member_trains(tmp_path, monkeypatch):
    """Before the first member is done, some of its lines are there; each line once."""
    kept = Kept()
    monkeypatch.setitem(trackers.TRACKERS, "kept", lambda folder: kept)
    monkeypatch.setattr(trackers, "SECONDS", 0.02)
    monkeypatch.setattr("lrensemble.training.member.HISTORY_SECONDS", 0.0)
    slow = lambda spec, history: time.sleep(0.1)  # noqa: E731
    monkeypatch.setattr("lrensemble.training.loop.ask", lambda judges, spec, history: slow(spec, history))
    pool = trained(tmp_path, "kept:x", policies=["FIX(k0=0.05)"])
    [member] = pool.members
    assert kept.events[0] == ("open", member.id, "planned")
    logged = [n for kind, _, n in kept.events if kind == "log"]
    assert sum(logged) == len(member.history()) == 4 and len(logged) > 1
    assert kept.events[-1] == ("end", member.id, "complete")


def test_a_tracker_that_fails_stops_nothing(tmp_path, monkeypatch):
    kept = Kept(fails=True)
    monkeypatch.setitem(trackers.TRACKERS, "kept", lambda folder: kept)
    with pytest.warns(UserWarning, match="kept:x gets nothing more: no space left"):
        pool = trained(tmp_path, "kept:x")
    assert len(pool.complete) == 2


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("tensorbord:x", "did you mean 'tensorboard'"),
        ("tensorboard", "has no folder: write tensorboard:DIR"),
        ("wandb:x", r"pip install .*\[wandb\]"),
        ("mlflow:x", r"pip install .*\[mlflow\]"),
    ],
)
def test_bad_input(where, message, tmp_path, monkeypatch, capsys):
    for library in ("wandb", "mlflow"):
        monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(UserError, match=message):
        Tracker(where)
    (tmp_path / "c.yaml").write_text("data: digits\nmodel: mlp\npolicies: [FIX(k0=0.1)]\ntraining: {epochs: 1}\n")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "c.yaml", "--track", where]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1 and not (tmp_path / "checkpoints").exists()


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pool = trained(tmp_path, f"mlflow:{tmp_path / 'ml'}")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'ml' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny").experiment_id
    for member in pool.members:
        [run] = client.search_runs([experiment], f"tags.member = '{member.id}'")
        assert (run.info.status, run.data.params["policy"]) == ("FINISHED", member.record.spec.policy)
        found = client.get_metric_history(run.info.run_id, "loss/val")
        assert [(m.step, m.value) for m in found] == [(line["step"], line["val_loss"]) for line in member.history()]
        assert run.data.metrics["final/accuracy"] == member.record.val["accuracy"]
    Tracker(f"mlflow:{tmp_path / 'ml'}")._open(pool, pool.members[0].record)  # again: it replaces the old one
    assert len(client.search_runs([experiment])) == 2


def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from lrensemble.adopt.wandb_log import read_log

    monkeypatch.setenv("WANDB_MODE", "online")  # the environment does not send anything
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    pool = trained(tmp_path, f"wandb:{tmp_path / 'wb'}")
    for member in pool.members:
        [folder] = (tmp_path / "wb" / "wandb").glob(f"offline-run-*-{member.id}")
        config, lines = read_log(folder / f"run-{member.id}.wandb")
        assert (config["policy"], config["seed"]) == (member.record.spec.policy, 0)
        wanted = [(line["step"], line["val_loss"]) for line in member.history()]
        assert [(line["_step"], line["loss/val"]) for line in lines] == wanted
