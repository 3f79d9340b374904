"""kill -9 at random moments: nothing lost, nothing half-written taken for finished, bit-equal in the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lrensemble import Pool, load_config, train_pool
from tests.conftest import tiny_config
from tests.training.test_runner import contents

EPOCHS = 150
CONFIG = tiny_config(
    model={"name": "mlp", "hidden": [32], "dropout": 0.2}, training={"epochs": EPOCHS, "batch_size": 32}
)
PROGRAM = f"""
import sys
from lrensemble import load_config, train_pool
from lrensemble.training import member
member.CHECKPOINT_SECONDS = 0.05  # save (and be killed while saving) often; needs one worker, i.e. this process
if __name__ == "__main__":
    train_pool(load_config({CONFIG!r}), sys.argv[1], workers=int(sys.argv[2]), threads=1, devices="cpu")
"""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pool, never interrupted."""
    path = tmp_path_factory.mktemp("quiet") / "pool"
    train_pool(load_config(CONFIG), path, workers=1, threads=1, devices="cpu")
    return path


def kill_and_finish(path: Path, workers: int, kills: int, seed: int) -> int:
    """Run, kill -9 at random moments `kills` times, then run to the end; return how often it hit a running trainer."""
    script = path.parent / "train.py"
    script.write_text(PROGRAM)
    command = [sys.executable, str(script), str(path), str(workers)]
    rng = random.Random(seed)
    hits = 0
    for _ in range(kills):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (path / "pool.json").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 5.0))
        hits += process.poll() is None
        whole_group = rng.random() < 0.5  # else the parent alone: its workers must not go on for long
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        pool = Pool.open(path)  # opens at any moment
        for member in pool.members:
            assert member.status in ("planned", "running", "complete")
        pool.predictions("val")
        pool.predictions("test")
    subprocess.run(command, check=True, timeout=300)
    return hits


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_resumed_equals_quiet(quiet: Path, tmp_path: Path, workers: int):
    path = tmp_path / "pool"
    assert kill_and_finish(path, workers, kills=4, seed=workers) >= 2
    assert contents(path) == contents(quiet)
    assert not [p for p in path.rglob("*") if p.name in (".lock", "state.pt")]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_many_times(quiet: Path, tmp_path: Path, workers: int):
    path = tmp_path / "pool"
    kill_and_finish(path, workers, kills=40, seed=100 + workers)
    assert contents(path) == contents(quiet)
