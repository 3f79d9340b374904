"""Rounds that survive any interruption, and that two processes share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Pool, UserError, load_config, train_pool
from lrensemble.cli.main import main
from lrensemble.recommend.propose import propose
from lrensemble.recommend.rounds import Limits, members_of, read_rounds, results, run_rounds
from lrensemble.training import make_plan
from lrensemble.training.watcher import Watcher
from tests.conftest import PATIENCE, tiny_config

OPTIONS = {"workers": 1, "threads": 1, "devices": "cpu"}


def go(path: Path, limits: Limits | None = None, watcher=None, **changes) -> str:
    config = load_config(tiny_config(control=False, **changes))
    limits = limits or Limits(rounds=2)
    return run_rounds(make_plan(config, path), limits, per_round=2, watcher=watcher, **OPTIONS)


def proposed(path: Path) -> list[list[str]]:
    return [[spec.model_dump_json() for spec in done.specs] for done in read_rounds(Pool.open(path))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("rounds") / "whole"
    assert go(path) == "2 rounds"
    return path


def test_rounds_train_what_they_propose(whole):
    pool = Pool.open(whole)
    rounds = read_rounds(pool)
    assert [len(done.proposals) for done in rounds] == [4, 2, 2]
    assert {m.id for m in members_of(pool, rounds)} == {m.id for m in pool.members}
    assert all(member.status == "complete" for member in pool.members)
    for done in rounds[1:]:
        for proposal in done.proposals:
            assert "predicted validation accuracy" in proposal.explanation
            assert 0 < proposal.accuracy <= 1
    found = results(pool)
    assert [r.trained for r in found] == [4, 6, 8]
    assert found[-1].nll <= found[0].nll + 0.01
    assert not list(whole.rglob("evaluations"))


def test_a_round_from_elsewhere_names_no_other_model(whole, tmp_path, monkeypatch):
    (tmp_path / "evil_rounds.py").write_text("raise SystemExit('executed')")
    monkeypatch.chdir(tmp_path)
    path = shutil.copytree(whole, tmp_path / "pool")
    for name in ("evil_rounds:net", "mlp(hidden=[16], dropout=0.1)"):  # the second reads as the configuration's
        found = json.loads((path / "rounds" / "1.json").read_text())
        found.pop("sha256", None)
        found["proposals"][0]["spec"]["model"] = {"name": name}
        (path / "rounds" / "1.json").write_text(json.dumps(found))
        with pytest.raises(UserError, match=r"is none of the configuration's"):
            go(path)


def test_what_is_proposed_again_is_of_the_configuration(whole, tmp_path):
    """The best runs of a pool may be of another configuration: rounds train none of its models."""
    path = shutil.copytree(whole, tmp_path / "pool")
    config = load_config(tiny_config(control=False, model={"name": "mlp", "hidden": [4]}, policies=["FIX(0.1)"]))
    bases = config.specs()
    assert {p.spec.model for p in propose(Pool.open(path), 400, bases=bases)} == {bases[0].model}


class Killed(Exception):
    pass


class KillAfter(Watcher):
    def __init__(self, members: int) -> None:
        self.left = members

    def member_done(self, record) -> None:
        self.left -= 1
        if not self.left:
            raise Killed


@pytest.mark.parametrize("members", [1, 4, 5])
def test_it_goes_on_as_if_nothing_had_happened(whole, tmp_path, members):
    with pytest.raises(Killed):
        go(tmp_path / "again", watcher=KillAfter(members))
    go(tmp_path / "again")
    assert proposed(tmp_path / "again") == proposed(whole)
    for member in Pool.open(whole).members:
        mine = Pool.open(tmp_path / "again").find(member.id)
        np.testing.assert_array_equal(*(np.load(m.path / "predictions" / "val.npy") for m in (member, mine)))


def test_more_rounds_later_are_the_same_rounds(whole, tmp_path):
    go(tmp_path / "x", Limits(rounds=1))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "x").rglob("record.json")}
    go(tmp_path / "x", Limits(rounds=2))
    assert proposed(tmp_path / "x") == proposed(whole)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())  # nothing is trained twice


def test_limits(tmp_path):
    assert go(tmp_path / "x", Limits(rounds=9, members=7)) == "7 members"
    assert [len(texts) for texts in proposed(tmp_path / "x")] == [4, 2, 1]
    assert go(tmp_path / "y", Limits(rounds=9, seconds=1e-6)) == "the time is up"
    assert not Pool.open(tmp_path / "y").members
    assert go(tmp_path / "z", Limits(rounds=9, seconds=0.7)) == "the time is up"


def test_diverged_runs_are_answered_with_lower_rates(tmp_path):
    """All of the configuration diverges: the proposals are below."""
    go(tmp_path / "x", Limits(rounds=1), policies=["FIX(k0=[300, 1000])"], training={"epochs": 4, "batch_size": 16})
    statuses = [m.status for m in members_of(Pool.open(tmp_path / "x"), read_rounds(Pool.open(tmp_path / "x"))[:1])]
    assert set(statuses) == {"diverged"}
    proposals = read_rounds(Pool.open(tmp_path / "x"))[1].proposals
    assert len(proposals) == 2
    assert all(float(p.spec.policy.split("k0=")[1].split(",")[0].rstrip(")")) <= 150 for p in proposals)
    assert "predict anything" in proposals[0].explanation


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(rounds=0), "rounds = 0 is not possible"),
        (Limits(members=0), "members = 0 leaves nothing to propose: the configuration itself has 4"),
        (Limits(members=4), "members = 4 leaves nothing"),
        (Limits(seconds=0), "a time of 0 s"),
    ],
)
def test_impossible_limits(tmp_path, limits, message):
    with pytest.raises(UserError, match=message):
        go(tmp_path / "x", limits)
    assert not (tmp_path / "x").exists()


def test_another_configuration_and_a_damaged_round(tmp_path):
    go(tmp_path / "x", Limits(rounds=1))
    with pytest.raises(UserError, match="rounds of another configuration"):
        go(tmp_path / "x", seeds=2)
    file = tmp_path / "x" / "rounds" / "1.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(UserError, match=r"1\.json: cut off or damaged.*delete it"):
        go(tmp_path / "x")
    file.unlink()
    go(tmp_path / "x", Limits(rounds=1))


def config_file(folder: Path) -> str:
    path = folder / "shared.yaml"
    path.write_text(json.dumps(tiny_config(control=False)))
    return str(path)


def start(config: str, pool: Path) -> subprocess.Popen[str]:
    words = ["propose", config, "--train", "--pool", str(pool), "--rounds", "2", "-n", "2", "--format", "json"]
    command = [sys.executable, "-m", "lrensemble", *words, "--workers", "1", "--threads", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_and_a_killed_one_fill_one_pool(whole, tmp_path):
    """Two at a time; one is killed as soon as there is a round, its successor and the other end with one plan."""
    config, pool = config_file(tmp_path), tmp_path / "pool"
    first, second = start(config, pool), start(config, pool)
    while not (pool / "rounds" / "0.json").exists():
        assert first.poll() is None
        time.sleep(0.02)
    os.kill(second.pid, signal.SIGKILL)
    second.communicate()
    third = start(config, pool)
    outcomes = []
    for process in (first, third):
        out, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        outcomes.append((json.loads(out), errors))
    assert outcomes[0][0]["rounds"][-1]["nll"] == outcomes[1][0]["rounds"][-1]["nll"]
    assert proposed(pool) == proposed(whole)
    assert len(Pool.open(pool).members) == 8
    # Each run was trained in full once: no epoch stands twice in a history.
    for member in Pool.open(pool).members:
        epochs = [line["epoch"] for line in member.history()]
        assert epochs == sorted(set(epochs))


def test_commands(whole, capsys, tmp_path):
    assert main(["propose", str(whole), "-n", "2", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["split"] == "val"
    assert len(found["proposals"]) == 2
    assert main(["propose", str(whole), "-n", "2", "-v"]) == 0
    out = capsys.readouterr().out
    assert "n = 337" in out
    assert found["proposals"][0]["explanation"] in out.replace("\n", "")
    config = config_file(tmp_path)
    assert main(["propose", config, "--train", "--pool", str(whole), "--rounds", "2", "-n", "2", "--workers", "1"]) == 0
    assert "after every round" in " ".join(capsys.readouterr().out.split())
    for words, message in (
        (["propose", "--train", config, "--time", "0"], "--time: 0 is not possible"),
        (["propose", "--train", config, "--time", "soon"], "--time: soon"),
        (["propose", config, "--train", "--rounds", "0"], "argument --rounds: 0 is not possible"),
        (["propose", config, "--train", "--seed", "-1"], "argument --seed: -1 is not possible"),
        (["propose", str(whole), "-n", "0"], "-n: 0 is not possible"),
        (["propose", str(tmp_path / "nowhere")], "is not a pool"),
    ):
        assert main(words) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert errors.count("\n") == 1


def test_members_of_another_model_are_not_trained_again(tmp_path):
    """What a pool holds beside the configuration is learnt from; its models are not built for that."""
    other = tiny_config(control=False, model={"name": "mlp", "hidden": [48]}, training={"epochs": 3, "batch_size": 64})
    train_pool(load_config(other), tmp_path / "pool", **OPTIONS)
    assert go(tmp_path / "pool") == "2 rounds"
    specs = [spec for done in read_rounds(Pool.open(tmp_path / "pool")) for spec in done.specs]
    assert len({str(spec.model) for spec in specs}) == 1 and not any("48" in str(spec.model) for spec in specs)
    plan = make_plan(load_config(tiny_config()), tmp_path / "pool")
    with pytest.raises(UserError, match=r"model .*48.* is none of the configuration's"):
        plan.of(load_config(other).specs())
    alone = plan.of(plan.specs, alone=True)
    assert alone.specs == plan.specs and plan.config.control and not alone.config.control
