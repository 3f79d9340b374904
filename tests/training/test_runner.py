"""Filling a pool: any number of workers, several trainers, failures, the control."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lrensemble import Pool, UserError, load_config, train_pool
from lrensemble.training import make_plan
from lrensemble.training.member import FINISHED
from lrensemble.training.plan import check_disk
from tests.conftest import PATIENCE, tiny_config


def contents(pool: Path) -> dict[str, bytes]:
    """Everything that must not depend on how the pool was filled."""
    return {
        str(path.relative_to(pool)): path.read_bytes()
        for path in sorted(pool.rglob("*"))
        if path.suffix in (".npy", ".safetensors")
    }


def test_two_workers_equal_one(config, trained: Path, tmp_path: Path):
    train_pool(config, tmp_path / "two", workers=2, threads=1, devices="cpu")
    assert contents(tmp_path / "two") == contents(trained)
    assert not [p for p in (tmp_path / "two").rglob("*") if p.name in (".lock", "state.pt") or p.suffix == ".tmp"]


def test_training_again_trains_nothing(config, pool: Pool):
    before = {path: path.stat().st_mtime_ns for path in pool.path.rglob("record.json")}
    train_pool(config, pool.path, workers=1)
    assert {path: path.stat().st_mtime_ns for path in pool.path.rglob("record.json")} == before


def test_a_deleted_member_comes_back_the_same(config, trained: Path, pool: Pool):
    shutil.rmtree(pool.members[2].path)
    train_pool(config, pool.path, workers=1, threads=1)
    assert contents(pool.path) == contents(trained)


def test_training_leaves_the_callers_torch_alone(config, tmp_path: Path):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    train_pool(config, tmp_path / "p", workers=1, threads=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_nan_does_not_stop_the_others(tmp_path: Path):
    config = load_config(tiny_config(policies=["FIX(k0=[1e30, 0.1])"], control=False))
    pool = train_pool(config, tmp_path / "p", workers=1)
    by_status = {m.status: m for m in pool.members}
    assert set(by_status) == {"complete", "diverged"}
    diverged = by_status["diverged"]
    assert "not finite" in diverged.record.reason
    assert diverged.history()[-1]["train_loss"] is None
    assert len(pool.predictions("val")) == 1
    before = diverged.record
    train_pool(config, pool.path, workers=1)
    assert Pool.open(pool.path).find(diverged.id).record == before  # finished: not tried again


def fails_in_training(*, input_shape, num_classes):
    """A model that works in the first try and breaks in the second epoch."""

    class Broken(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls > 20:
                raise RuntimeError("a bug in the user's model")
            return self.net(x)

    return Broken()


def test_an_exception_fails_the_member_with_its_traceback(tmp_path: Path):
    grid = {"model": ["tests.training.test_runner:fails_in_training", "mlp"]}
    config = load_config(tiny_config(policies=["FIX(0.1)"], grid=grid, control=False))
    pool = train_pool(config, tmp_path / "p", workers=1)
    failed = next(m for m in pool.members if m.status == "failed")
    assert failed.record.reason == "RuntimeError: a bug in the user's model"
    assert "fails_in_training" not in failed.record.reason
    assert "in forward" in failed.record.traceback
    assert len(pool.complete) == 1


def test_control_is_the_best_member_with_fresh_seeds(trained: Path):
    pool = Pool.open(trained)
    best = pool.best_single()
    accuracies = [m.record.metrics["val"]["accuracy"] for m in pool.complete]
    assert best.record.metrics["val"]["accuracy"] == max(accuracies)
    control = pool.control
    assert len(control.complete) == len(pool.complete)
    assert {m.record.spec.seed for m in control.members} == {1, 2, 3, 4}
    for member in control.members:
        assert member.record.spec.model_copy(update={"seed": 0}) == best.record.spec
    stacked = np.asarray(control.predictions("val"))
    assert len(np.unique(stacked[:, 0, 0])) == len(stacked)  # different seeds, different models


def test_a_member_that_another_process_trains_is_left_to_it(config, pool: Pool, trained: Path):
    """Hold the lock of one member, finish it later: the second trainer waits and trains it not again."""
    busy = pool.members[0]
    finished = busy.record
    busy.write_record(finished.model_copy(update={"status": "planned"}))
    program = (
        "import sys, time; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.readline()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(busy.path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    assert Pool.open(pool.path).members[0].status == "running"

    def finish() -> None:
        time.sleep(1.0)
        busy.write_record(finished)
        other.communicate("\n")

    thread = threading.Thread(target=finish)
    thread.start()
    train_pool(config, pool.path, workers=1, threads=1)
    thread.join()
    assert Pool.open(pool.path).find(busy.id).record.finished == finished.finished
    assert contents(pool.path) == contents(trained)


def test_two_trainers_share_a_pool(config, trained: Path, tmp_path: Path):
    path = tmp_path / "shared"
    program = (
        "import sys, json; from lrensemble import load_config, train_pool;"
        "from tests.conftest import PATIENCE, tiny_config;"
        "train_pool(load_config(tiny_config()), sys.argv[1], workers=1, threads=1, devices='cpu')"
    )
    trainers = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(2)]
    assert [trainer.wait(timeout=PATIENCE) for trainer in trainers] == [0, 0]
    assert contents(path) == contents(trained)


def workers_of(pid: int) -> list[int]:
    """Worker processes of a trainer."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [int(child) for file in children for child in file.read_text().split()]
    return [child for child in pids if b"lrensemble.training.worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


def kills_its_worker_once(*, input_shape, num_classes, mark: str):
    """In the second epoch of the first run that gets there."""

    class Deadly(torch.nn.Sequential):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls == 20 and "lrensemble.training.worker" in " ".join(sys.orig_argv):
                try:
                    Path(mark).touch(exist_ok=False)
                except FileExistsError:
                    return super().forward(x)
                os.kill(os.getpid(), signal.SIGKILL)
            return super().forward(x)

    return Deadly(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))


def test_a_killed_worker_is_replaced_and_its_member_trained_again(tmp_path: Path):
    """The kernel kills a worker (out of memory): nobody notices but for the time."""
    model = {"name": "tests.training.test_runner:kills_its_worker_once", "mark": str(tmp_path / "killed")}
    config = load_config(tiny_config(model=model, policies=["FIX([0.02, 0.1])"], control=False))
    pool = train_pool(config, tmp_path / "p", workers=2, threads=1)
    assert (tmp_path / "killed").exists()
    assert {m.status for m in pool.members} == {"complete"}
    quiet = train_pool(config, tmp_path / "quiet", workers=1, threads=1)
    assert contents(pool.path) == contents(quiet.path)
    assert not workers_of(os.getpid())


def kills_its_process(*, input_shape, num_classes):
    """Works in the try before training; in a worker process it is the end of it, as if the kernel had no memory."""

    class Deadly(torch.nn.Sequential):
        def forward(self, x):
            if "lrensemble.training.worker" in " ".join(sys.orig_argv):
                os.kill(os.getpid(), signal.SIGKILL)
            return super().forward(x)

    return Deadly(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))


@pytest.mark.slow
def test_a_member_that_kills_its_worker_twice_has_failed(tmp_path: Path):
    grid = {"model": ["tests.training.test_runner:kills_its_process", "mlp"]}
    config = load_config(tiny_config(policies=["FIX(0.1)"], grid=grid, control=False))
    pool = train_pool(config, tmp_path / "p", workers=2, threads=1)
    by_model = {(m.record.spec.model.name, m.status): m.record for m in pool.members}
    assert {status for _, status in by_model} == {"complete", "failed"}
    assert len(pool.complete) == 1
    failed = by_model["tests.training.test_runner:kills_its_process", "failed"]
    assert failed.reason == "its worker process was killed by SIGKILL (out of memory?), 2 times"


def test_a_users_error_in_a_worker_is_the_parents(config, tmp_path: Path, monkeypatch):
    """Data that change while workers train them: one line, not a traceback from another process."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (60, 8, 8), dtype=np.uint8), np.arange(60) % 3
    arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    np.savez(tmp_path / "x.npz", **arrays)
    changes = load_config(
        tiny_config(data={"name": "npz", "root": str(tmp_path / "x.npz")}, model="mlp", policies=["FIX([0.1, 0.2])"])
    )
    plan = make_plan(changes, tmp_path / "p")
    np.savez(tmp_path / "x.npz", **{**arrays, "train_images": images[::-1]})
    with pytest.raises(UserError, match="the data changed while the pool was trained"):
        train_pool(plan, workers=2, threads=1)
    assert not workers_of(os.getpid())


def test_a_full_disk_loses_nothing(config, tmp_path: Path, monkeypatch):
    from lrensemble.pool import files

    real, written = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written > 30:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(UserError, match="the disk is full"):
        train_pool(config, tmp_path / "p", workers=1, threads=1)
    monkeypatch.undo()
    pool = Pool.open(tmp_path / "p")
    done = [m.id for m in pool.members if m.status in FINISHED]
    assert 0 < len(done) < 4
    pool.predictions("val")  # what is finished is whole
    train_pool(config, tmp_path / "p", workers=1, threads=1)
    assert len(pool.complete) == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=lenet", "cannot take inputs of shape"),
        ("model=torchvision:alexnet", "cannot take images of shape|Output size is too small"),
        ("optimizer.lr=3", "lr is what the policies are for"),
        ("model=tests.training.test_runner:wrong_classes", r"gives \(2, 3\) for 2 rows"),
    ],
)
def test_what_cannot_train_is_refused_before_anything_is_written(tmp_path: Path, override, message):
    with pytest.raises(UserError, match=message):
        train_pool(load_config(tiny_config(), [override]), tmp_path / "p")
    assert not (tmp_path / "p").exists()


def wrong_classes(*, input_shape, num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))


@pytest.mark.parametrize("arguments", [{"workers": 0}, {"threads": 0}, {"devices": "cuda:99"}, {"devices": "tpu9"}])
def test_impossible_arguments(config, tmp_path: Path, arguments):
    with pytest.raises(UserError, match=r"workers = 0|threads = 0|cuda:99|unknown device .tpu9"):
        train_pool(config, tmp_path / "p", **arguments)


def test_too_little_disk_is_said_before(tmp_path: Path):
    with pytest.raises(UserError, match=r"needs about 10.0 TB, but only .* are free"):
        check_disk(tmp_path / "not" / "there", 10**13)


def test_the_estimate_is_near_the_truth(config, trained: Path, tmp_path: Path):
    plan = make_plan(config, tmp_path / "new")
    written = sum(path.stat().st_size for path in trained.rglob("*") if path.is_file())
    assert written * 0.6 < plan.total_bytes < written * 1.7


def test_a_bug_in_a_users_model_is_one_line_and_keeps_its_traceback(tmp_path: Path):
    config = load_config(tiny_config(), ["model=tests.training.test_runner:takes_other_images"])
    with pytest.raises(UserError, match=r"images of shape .*RuntimeError: .*cannot be multiplied") as caught:
        train_pool(config, tmp_path / "p")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert not (tmp_path / "p").exists()


def takes_other_images(*, input_shape, num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(65, num_classes))


def test_all_diverged_trains_no_control(tmp_path: Path):
    pool = train_pool(load_config(tiny_config(policies=["FIX(1e30)"])), tmp_path / "p", workers=1)
    assert [m.status for m in pool.members] == ["diverged"]
    assert pool.control is None


def test_data_that_changed_between_two_pools_of_one_process(tmp_path: Path):
    """The loaded data are kept from one member to the next, not from one version of a file to the next."""
    rng = np.random.default_rng(0)

    def write() -> None:
        images = rng.integers(0, 255, (60, 8, 8), dtype=np.uint8)
        labels = np.arange(60) % 3
        np.savez(tmp_path / "x.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)

    config = load_config(tiny_config(data={"name": "npz", "root": str(tmp_path / "x.npz")}, policies=["FIX(0.1)"]))
    fingerprints = set()
    for i in range(2):
        write()
        pool = train_pool(config, tmp_path / f"p{i}", workers=1)
        assert len(pool.complete) == 1
        fingerprints.add(pool.task.data_fingerprint)
    assert len(fingerprints) == 2


def returns_tuple(*, input_shape, num_classes):
    class Net(torch.nn.Module):
        def forward(self, x):
            return x, x

    net = Net()
    net.weight = torch.nn.Parameter(torch.zeros(1))
    return net


def fails_for_other_seeds(*, input_shape, num_classes):
    """The first model of a process (the try before training aside) works."""
    fails_for_other_seeds.built = getattr(fails_for_other_seeds, "built", 0) + 1
    if fails_for_other_seeds.built > 2:
        raise RuntimeError("a late bug")
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))


def draws_from_numpy(*, input_shape, num_classes):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))
    with torch.no_grad():
        net[1].weight.copy_(torch.from_numpy(np.random.randn(num_classes, 64) / 8))  # noqa: NPY002
        net[1].bias.fill_(random.random())
    return net


def test_models_that_draw_from_numpy_are_repeatable_too(tmp_path: Path):
    config = load_config(tiny_config(control=False), ["model=tests.training.test_runner:draws_from_numpy"])
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for name in ("a", "b"):
        train_pool(config, tmp_path / name, workers=1, threads=1)
        np.random.seed(3)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_state_of_another_model_starts_the_member_again(config, pool: Pool, trained: Path):
    """The user changed the model's code after an interruption: the state is of no use, and no obstacle."""
    member = pool.members[0]
    member.write_record(member.record.model_copy(update={"status": "planned"}))
    state = {
        "epoch": 2,
        "seconds": 1.0,
        "history": [],
        "model": {"other": torch.zeros(3)},
        "optimizer": {},
        "scheduler": {},
    }
    torch.save(state, member.path / "state.pt")
    train_pool(config, pool.path, workers=1, threads=1)
    assert contents(pool.path) == contents(trained)


def test_a_member_that_recovers_forgets_its_traceback(config, pool: Pool):
    member = pool.members[0]
    failed = {"status": "failed", "reason": "RuntimeError: x", "traceback": "Traceback ..."}
    member.write_record(member.record.model_copy(update=failed))
    train_pool(config, pool.path, workers=1, threads=1)
    record = Pool.open(pool.path).find(member.id).record
    assert (record.status, record.reason, record.traceback) == ("complete", None, None)


def test_a_full_disk_at_the_very_first_folder(config, tmp_path: Path, monkeypatch):
    real = Path.mkdir

    def mkdir(self, *args, **kwargs):
        if "members" in self.parts:
            raise OSError(28, "No space left on device")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(UserError, match="the disk is full"):
        train_pool(config, tmp_path / "p", workers=1)
