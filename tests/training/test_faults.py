"""What the world does to a training: full disks, cut files, killed workers, other trainers, clocks that jump."""

from __future__ import annotations

import contextlib
import datetime as datetime_module
import itertools
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lrensemble import Pool, UserError, load_config, train_pool
from lrensemble.pool import files
from lrensemble.training import member as member_module
from lrensemble.training import runner
from lrensemble.training import state as state_module
from lrensemble.training.loop import Run
from lrensemble.training.runner import control_specs
from lrensemble.training.worker import Worker, WorkerDied
from tests.conftest import PATIENCE, tiny_config
from tests.training.test_runner import contents

POLICIES = ["FIX(0.05)", "COSRSW(k0=0.2, k1=0.001, l=2e)", "FIX(0.02)"]
CHANGES = {
    "model": {"name": "mlp", "hidden": [16]},
    "training": {"epochs": 6, "batch_size": 64},
    "policies": POLICIES,
    "snapshots": "cycles",  # of the second run, which so is not in the stack of the other two
    "control": False,
}
CONFIG = tiny_config(**CHANGES)


def fill(path: Path, *overrides: str) -> Pool:
    return train_pool(load_config(CONFIG, overrides), path, workers=1, threads=1, devices="cpu")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("quiet") / "p").path


@pytest.fixture
def often(monkeypatch):
    """A state and a history after every epoch."""
    for name in ("CHECKPOINT_SECONDS", "HISTORY_SECONDS"):
        monkeypatch.setattr(member_module, name, 0.0)
    monkeypatch.setattr(member_module, "CHECKPOINT_SHARE", 1e9)


def interrupted(path: Path, monkeypatch, epoch: int = 4) -> Pool:
    """A pool whose trainer was stopped after an epoch of every run."""
    original = Run.train_epoch
    from lrensemble.training import stack

    original_stack = stack._train_epoch

    def alone(run: Run) -> None:
        if run.epoch == epoch:
            raise KeyboardInterrupt
        original(run)

    def stacked(runs):
        if runs[0].epoch == epoch:
            raise KeyboardInterrupt
        return original_stack(runs)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "train_epoch", alone)
        patch.setattr(stack, "_train_epoch", stacked)
        for policies in ([POLICIES[0], POLICIES[2]], [POLICIES[1]]):
            config = load_config({**CONFIG, "policies": policies})
            with pytest.raises(KeyboardInterrupt):
                train_pool(config, path, workers=1, threads=1, devices="cpu")
    return Pool.open(path)


def test_interrupted_stack_and_snapshots_go_on(tmp_path: Path, quiet: Path, often, monkeypatch):
    pool = interrupted(tmp_path / "p", monkeypatch)
    assert len(list(pool.path.rglob("state.pt"))) == 3
    epochs = []
    end = Run.end_epoch
    monkeypatch.setattr(Run, "end_epoch", lambda run, totals: (epochs.append(run.epoch), end(run, totals))[1])
    assert contents(fill(pool.path).path) == contents(quiet)
    assert sorted(epochs) == [4, 4, 4, 5, 5, 5]
    assert not list(pool.path.rglob("state.pt"))


@pytest.mark.parametrize("percent", range(0, 100, 10))
def test_states_cut_off_cost_time_only(tmp_path: Path, quiet: Path, often, monkeypatch, percent):
    pool = interrupted(tmp_path / "p", monkeypatch)
    for path in pool.path.rglob("state.pt"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * percent // 100])
    assert contents(fill(pool.path).path) == contents(quiet)


def flip_a_bit(paths: list[Path]) -> None:
    """Of a weight: torch itself loads what comes out."""
    for path in paths:
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(data)


def without_hash(paths: list[Path]) -> None:
    """A bit flipped in a state of an older version: its archive has checksums."""
    for path in paths:
        path.write_bytes(path.read_bytes()[: -state_module._SIZE])
    flip_a_bit(paths)


def exchange(paths: list[Path]) -> None:
    """Two states of the same model: each is whole."""
    first, second = paths[0].read_bytes(), paths[1].read_bytes()
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)


@pytest.mark.parametrize("change", [flip_a_bit, without_hash, exchange])
def test_changed_states_are_not_gone_on_from(tmp_path: Path, quiet: Path, often, monkeypatch, change):
    pool = interrupted(tmp_path / "p", monkeypatch)
    paths = sorted(pool.path.rglob("state.pt"))
    change(paths)
    with pytest.warns(UserWarning, match="state.pt is damaged or of another run: member .* starts again") as warned:
        assert contents(fill(pool.path).path) == contents(quiet)
    for path in paths[: 2 if change is exchange else 3]:
        assert any(str(path) in str(warning.message) for warning in warned)


def test_states_of_an_older_version_are_gone_on_from(tmp_path: Path, quiet: Path, often, monkeypatch):
    pool = interrupted(tmp_path / "p", monkeypatch)
    for path in pool.path.rglob("state.pt"):
        path.write_bytes(path.read_bytes()[: -state_module._SIZE])
    epochs = []
    end = Run.end_epoch
    monkeypatch.setattr(Run, "end_epoch", lambda run, totals: (epochs.append(run.epoch), end(run, totals))[1])
    assert contents(fill(pool.path).path) == contents(quiet)
    assert sorted(epochs) == [4, 4, 4, 5, 5, 5]


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 2}, None, 7])
def test_states_of_something_else_cost_time_only(tmp_path: Path, quiet: Path, often, monkeypatch, content):
    pool = interrupted(tmp_path / "p", monkeypatch)
    for path in pool.path.rglob("state.pt"):
        torch.save(content, path)
    assert contents(fill(pool.path).path) == contents(quiet)


def test_histories_cut_off_while_training(tmp_path: Path, quiet: Path, often, monkeypatch):
    pool = interrupted(tmp_path / "p", monkeypatch)
    found = [m.path / "history.jsonl" for m in pool.members if m.status == "planned"]
    found = [path for path in found if path.exists()]
    assert len(found) == 3
    for path in found:
        path.write_bytes(path.read_bytes()[:-20])
    again = fill(pool.path)
    assert contents(again.path) == contents(quiet)
    assert all(len(m.history()) == m.record.costs["steps"] // 15 for m in again.members)


@pytest.mark.parametrize("percent", [0, 30, 99])
@pytest.mark.parametrize("name", ["record.json", "predictions/val.npy", "history.jsonl", "weights.safetensors"])
def test_cut_files_of_a_finished_member_are_named(tmp_path: Path, quiet: Path, name, percent):
    """The pool opens; what needs the file names it and says what to do; done so, the member comes back the same."""
    pool = Pool.open(shutil.copytree(quiet, tmp_path / "p"))
    member = next(m for m in pool.members if m.record.parent is None)
    path = member.path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size * percent // 100])
    pool = Pool.open(pool.path)
    member = pool.find(member.id)
    if name == "record.json":
        assert [m.status for m in pool.members].count("damaged") == 1
        use = lambda: fill(pool.path)  # noqa: E731
    elif name == "history.jsonl":
        use = member.history if percent else lambda: member.check_file(name)
    else:
        use = member.weights if "weights" in name else lambda: pool.predictions("val")
    with pytest.raises(UserError, match=rf"{member.id}.*cut off or damaged"):
        use()
    shutil.rmtree(member.path)
    assert contents(fill(pool.path).path) == contents(quiet)


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path, quiet: Path, monkeypatch, often):
    """Also in the folders of snapshots, which the run writes."""
    pool = interrupted(tmp_path / "p", monkeypatch, epoch=1)
    for member in pool.members:
        for name in (".record.json.0a1b2c3d.tmp", "predictions/.val.npy.0a1b2c3d.tmp"):
            (member.path / name).parent.mkdir(exist_ok=True)
            (member.path / name).write_bytes(b"half")
    fill(pool.path)
    assert not list(pool.path.rglob("*.tmp"))


@contextlib.contextmanager
def small_disk(path: Path, kilobytes: int):
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)]
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if found.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {found.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_disk_that_is_really_full(tmp_path: Path, quiet: Path, often, monkeypatch):
    """A file takes the rest of a small disk, a bit less of it every time: every write fails once, and nothing is lost.

    4 kB are a page of tmpfs. The training is told the truth by the kernel, at any write.
    """
    monkeypatch.setattr(runner, "check_disk", lambda path, needed: None)  # which would see it coming
    with small_disk(tmp_path / "disk", 2000) as disk:
        path, ballast, failures = disk / "p", disk / "ballast", 0
        config = load_config(CONFIG)
        for free in itertools.count(4, 12):
            ballast.unlink(missing_ok=True)
            usage = shutil.disk_usage(disk)
            if usage.free // 1000 > free:
                ballast.write_bytes(bytes(max(0, usage.free - free * 1000)))
            finished = {m.id: m.record for m in Pool.open(path).complete} if (path / "pool.json").exists() else {}
            try:
                train_pool(config, path, workers=1, threads=1, devices="cpu")
                break
            except UserError as error:
                assert "the disk is full" in str(error)
                failures += 1
            if not (path / "pool.json").exists():
                continue
            pool = Pool.open(path)
            pool.predictions("val"), pool.predictions("test")  # what is finished is whole ...
            assert {m.id: m.record for m in pool.complete if m.id in finished} == finished  # ... and stays
        assert contents(path) == contents(quiet)
        assert not list(path.rglob("*.tmp"))
        assert failures >= 5


COUNTED = """
import sys
from pathlib import Path
from lrensemble import load_config, train_pool
from lrensemble.training import member
write = member._write
def counted(one, *rest, **more):
    with (Path(sys.argv[2]) / one.id).open("a") as file:
        file.write("x")
    write(one, *rest, **more)
member._write = counted
print("ready", flush=True)
sys.stdin.readline()
train_pool(load_config({config!r}), sys.argv[1], workers=1, threads=1, devices="cpu")
"""


@pytest.mark.slow
def test_two_trainers_train_every_member_once(tmp_path: Path):
    """Stacks of 3 and a run with snapshots, started at the same moment: every result is written by one of them."""
    policies = ["FIX([0.05, 0.02, 0.01, 0.03, 0.04, 0.06])", POLICIES[1]]
    config = {**CONFIG, "policies": policies, "engine": {"stack": 3}}
    config["training"] = {"epochs": 20, "batch_size": 16}
    (tmp_path / "marks").mkdir()
    script = tmp_path / "train.py"
    script.write_text(COUNTED.format(config=config))
    command = [sys.executable, str(script), str(tmp_path / "p"), str(tmp_path / "marks")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    trainers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert [trainer.stdout.readline() for trainer in trainers] == ["ready\n"] * 2
    for trainer in trainers:
        trainer.stdin.write("\n")
        trainer.stdin.flush()
    assert [trainer.wait(timeout=PATIENCE) for trainer in trainers] == [0, 0]
    pool = Pool.open(tmp_path / "p")
    assert {m.status for m in pool.members} == {"complete"}
    marks = {path.name: len(path.read_text()) for path in (tmp_path / "marks").iterdir()}
    assert marks == {m.id: 1 for m in pool.members}
    alone = train_pool(load_config(config), tmp_path / "alone", workers=1, threads=1, devices="cpu")
    assert contents(pool.path) == contents(alone.path)


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_clocks_that_jump_change_nothing(tmp_path: Path, quiet: Path, monkeypatch, often, jump):
    """Wall time goes back or forth by 30 years at every look: only the dates in the records know."""
    real, looks = time.time, itertools.count()

    def wall() -> float:
        return real() + (jump if next(looks) % 2 else 0)

    class Jumping(datetime_module.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(wall(), tz)

    monkeypatch.setattr(time, "time", wall)
    monkeypatch.setattr(files, "datetime", Jumping)
    pool = interrupted(tmp_path / "p", monkeypatch)
    assert contents(fill(pool.path).path) == contents(quiet)
    for member in pool.members:
        seconds = [line["seconds"] for line in member.history()]
        assert seconds == sorted(seconds)
        assert 0 < member.record.costs["seconds"] < 1e6  # no years
    assert len({m.record.finished[:4] for m in pool.members} | {m.record.created[:4] for m in pool.members}) == 2


def test_no_training_code_reads_the_wall_clock():
    root = Path(member_module.__file__).parent
    for path in root.rglob("*.py"):
        text = path.read_text()
        assert "time.time(" not in text, path
        assert not re.search(r"datetime\.(now|utcnow|today)|date\.today", text), path


def test_an_answer_cut_off_is_a_dead_worker():
    """The kernel kills a worker in the middle of its answer."""
    worker = Worker()
    worker.close()
    program = "import sys; sys.stdin.readline(); print('{\"busy\": [', end='', flush=True)"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    worker.process = subprocess.Popen([sys.executable, "-c", program], **pipes)
    with pytest.raises(WorkerDied, match="exit code 0"):
        worker.train("{}")
    worker.close()


def test_states_of_a_stack_take_their_share_of_the_time_together(monkeypatch, tmp_path: Path, quiet: Path):
    """2 % of the time, not 2 % for each of the stack."""
    made = []
    init = member_module._Checkpoints.__init__
    monkeypatch.setattr(
        member_module._Checkpoints, "__init__", lambda self, *a, **k: (made.append(self), init(self, *a, **k))[1]
    )
    fill(tmp_path / "p")
    shares = sorted(round(checkpoint.share / member_module.CHECKPOINT_SHARE, 6) for checkpoint in made)
    assert shares == [0.5, 0.5, 1]


def test_a_control_of_a_pool_with_a_users_own_members(tmp_path: Path):
    """What our trainer did not train it cannot train again with other seeds: the control is of the best that it can."""
    pool = fill(tmp_path / "p")
    perfect = {split: np.eye(10, dtype=np.float32)[pool.labels(split)] for split in ("val", "test")}
    with pool.member(model="mine", seed=3) as recorder:
        recorder.predict(**perfect)
    assert pool.best_single().id == recorder.id
    specs = control_specs(Pool.open(pool.path))
    assert len(specs) == 3
    assert {spec.model.name for spec in specs} == {"mlp"}
    assert min(spec.seed for spec in specs) > 0
