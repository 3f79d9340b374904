"""What goes into every record: targets, git revision, hashes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrensemble import Pool, UserError
from lrensemble.opening import file_hash
from lrensemble.pool import writing
from lrensemble.pool.record import loop_spec

ACCURACIES = st.lists(st.one_of(st.none(), st.floats(0, 1), st.just(float("nan"))), max_size=8)


@given(ACCURACIES, st.floats(0, 1))
def test_reached_is_the_first_line_that_is_good_enough(accuracies, target):
    history = [{"step": 10 * i, "seconds": float(i), "val_accuracy": a} for i, a in enumerate(accuracies)]
    (found,) = writing.reached(history, [target]).values()
    good = [line for line in history if line["val_accuracy"] is not None and line["val_accuracy"] >= target]
    assert found == ({"step": good[0]["step"], "seconds": good[0]["seconds"]} if good else None)


def test_reached_knows_what_the_history_knows():
    history = [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "val_accuracy": 0.9}]
    assert writing.reached(history, [0.5, 0.95]) == {"0.5": {}, "0.95": None}
    assert writing.reached([], [0.5]) == {"0.5": None}
    assert writing.reached(history, []) == {}


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    def run(*arguments: str) -> str:
        writing.git_revision.cache_clear()
        settings = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        return subprocess.run(["git", *settings, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    yield run
    writing.git_revision.cache_clear()


def test_git_revision(git, tmp_path: Path):
    writing.git_revision.cache_clear()
    assert writing.git_revision() is None
    git("init")
    assert writing.git_revision() is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    head = git("rev-parse", "HEAD")
    assert writing.git_revision() == head
    git("tag", "-a", "v1", "-m", "v1")
    assert writing.git_revision() == head  # never the name of a tag
    (tmp_path / "a").write_text("2")
    git("status")
    assert writing.git_revision() == f"{head}-dirty"


@pytest.mark.parametrize("setting", ["core.fsmonitor", "filter.x.clean"])
def test_no_program_that_a_repository_names_is_run(git, tmp_path: Path, setting):
    """`git describe --dirty`, as `git status`, runs them: the current folder may be a stranger's."""
    (program := tmp_path / "evil").write_text(f"#!/bin/sh\ntouch '{tmp_path}/executed'\ncat\n")
    program.chmod(0o755)
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    head = git("rev-parse", "HEAD")
    git("config", setting, str(program))
    (tmp_path / ".gitattributes").write_text("* filter=x\n")
    (tmp_path / "a").write_text("2")
    git("--version")  # forgets what was found before
    assert writing.git_revision() == f"{head}-unchecked"
    assert not (tmp_path / "executed").exists()
    git("describe", "--always", "--dirty")
    assert (tmp_path / "executed").exists()  # the attack works


def test_no_git_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    writing.git_revision.cache_clear()
    assert writing.git_revision() is None
    writing.git_revision.cache_clear()


def test_environment_has_versions_after_what_was_given():
    found = writing.environment(device="cpu")
    assert next(iter(found)) == "device"
    assert {"lrensemble", "torch", "python", "platform", "git"} < set(found)


def test_the_record_names_every_file_with_its_hash(tmp_path: Path):
    pool = Pool.create(tmp_path / "p", labels={"val": [0, 1], "test": [1]})
    (member,) = pool.plan([loop_spec("import", model="m", seed=0, notes={})])
    (member.path / "state.pt").write_bytes(b"of an interrupted run")
    member.write_record(member.record.model_copy(update={"status": "failed", "reason": "x", "traceback": "y"}))
    record = writing.write_complete(
        member,
        labels=pool.labels("val"),
        history=[{"step": 1, "val_loss": float("nan")}],
        probabilities={"val": np.eye(2), "test": np.eye(2)[:1]},
        weights=None,
        metrics={"train": {"loss": 1.0}},
        costs={"steps": 1},
    )
    assert Pool.open(pool.path).members[0].record == record
    assert set(record.files) == {"predictions/val.npy", "predictions/test.npy", "history.jsonl"}
    assert all(info.sha256 == file_hash(member.path / name) for name, info in record.files.items())
    assert (record.reason, record.traceback, record.costs) == (None, None, {"steps": 1})
    assert set(record.metrics) == {"train", "val"}
    assert not (member.path / "state.pt").exists()
    with pytest.raises(UserError, match="knows no such file"):
        member.weights()


def test_a_write_that_fails_leaves_the_member_unfinished(tmp_path: Path, monkeypatch):
    pool = Pool.create(tmp_path / "p", labels={"val": [0, 1], "test": [1]})
    (member,) = pool.plan([loop_spec("import", model="m", seed=0, notes={})])

    def full(*arguments, **options):
        raise UserError("the disk is full")

    monkeypatch.setattr(writing, "write_history", full)
    with pytest.raises(UserError, match="disk is full"):
        writing.write_complete(
            member,
            labels=pool.labels("val"),
            history=[{"step": 1}],
            probabilities={"val": np.eye(2), "test": np.eye(2)[:1]},
            weights=None,
        )
    assert Pool.open(pool.path).members[0].status == "planned"
    assert pool.complete == []
