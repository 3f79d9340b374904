"""kill -9 at random moments: nothing lost, nothing half-written taken for finished, bit-equal in the end."""

from __future__ import annotations

import contextlib
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

# Three runs that are one stack, one alone with three snapshots, and a control of four, which is a stack again.
CONFIG = tiny_config(
    model={"name": "mlp", "hidden": [32]},
    policies=["FIX([0.02, 0.05, 0.1])", "COSRSW(k0=0.2, k1=0.001, l=25%)"],
    snapshots="cycles",
    training={"epochs": 40, "batch_size": 32},
)
MEMBERS, CONTROL = 7, 4
# A trainer is forked from a process that has imported everything: a kill costs no start of Python. With two workers
# these are processes of their own, as always; they save less often, since nobody changes it for them.
SERVER = f"""
import os, sys
from lrensemble import load_config, load_dataset, train_pool
from lrensemble.training import member
member.CHECKPOINT_SECONDS, member.CHECKPOINT_SHARE = 0.02, 1e9  # save, and be killed while saving, often
config = load_config({CONFIG!r})
load_dataset("digits")
print("ready", flush=True)
for path in sys.stdin:
    if (pid := os.fork()) == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        status = 1
        try:
            train_pool(config, path.strip(), workers=int(sys.argv[1]), threads=1, devices="cpu")
            status = 0
        finally:
            os._exit(status)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Trainers:
    """Starts trainers, one at a time."""

    def __init__(self, workers: int) -> None:
        command = [sys.executable, "-c", SERVER, str(workers)]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.server.stdout.readline() == "ready\n"

    def start(self, path: Path) -> int:
        self.server.stdin.write(f"{path}\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def status(self) -> int:
        """Wait for the end of the one that was started last."""
        return int(self.server.stdout.readline())

    def close(self) -> None:
        self.server.kill()
        self.server.communicate()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pool, never interrupted."""
    path = tmp_path_factory.mktemp("quiet") / "pool"
    pool = train_pool(load_config(CONFIG), path, workers=1, threads=1, devices="cpu")
    assert (len(pool.complete), len(pool.control.complete)) == (MEMBERS, CONTROL)
    assert max(m.record.environment["stack"] for m in pool.complete) == 3
    return path


def finished(path: Path) -> dict[str, bytes]:
    """The records of all that is complete, after checking that it is whole; the pool opens at any moment."""
    if not (path / "pool.json").exists():
        return {}
    pool = Pool.open(path)
    records = {}
    for part in filter(None, (pool, pool.control)):
        for member in part.members:
            assert member.record.status in ("planned", "complete")
        part.predictions("val")  # checks sizes and hashes
        part.predictions("test")
        records |= {f"{part.path}/{m.id}": m.record_path.read_bytes() for m in part.complete}
    return records


def kill(folder: Path, quiet: Path, workers: int, kills: int, longest: float, seed: int) -> int:
    """Kill `kills` trainers while they train, on as many pools as that takes; return the number of pools."""
    rng = random.Random(seed)
    trainers = Trainers(workers)
    hits, pools = 0, 0
    try:
        while hits < kills:
            pools += 1
            path, before, status = folder / str(pools), {}, 1
            while status:
                pid = trainers.start(path)
                if hits < kills:
                    time.sleep(rng.uniform(0, longest))
                    with contextlib.suppress(ProcessLookupError):  # it has ended, or has no group yet
                        if workers == 1 or rng.random() < 0.5:  # else the parent alone: its workers end soon
                            os.killpg(pid, signal.SIGKILL)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                status = trainers.status()
                assert os.WIFSIGNALED(status) or status == 0, "the trainer failed"
                hits += status != 0
                now = finished(path)
                assert before.items() <= now.items()  # what was finished is so, and was not trained again
                before = now
            assert contents(path) == contents(quiet)
            assert not list(path.rglob("state.pt")) + list(path.rglob("*.tmp"))
    finally:
        trainers.close()
    return pools


def test_killed_and_resumed_equals_quiet(quiet: Path, tmp_path: Path):
    kill(tmp_path, quiet, workers=1, kills=8, longest=1.0, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kills", "longest"), [(1, 170, 0.8), (2, 30, 8.0)])
def test_killed_200_times(quiet: Path, tmp_path: Path, workers: int, kills: int, longest: float):
    print(kill(tmp_path, quiet, workers, kills, longest, seed=100 + workers), "pools")
