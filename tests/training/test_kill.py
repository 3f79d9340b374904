"""kill -9 at random moments: nothing lost, nothing half-written taken for finished, bit-equal in the end."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lrensemble import Pool, load_config, train_pool
from lrensemble.pool.gc import collect, plan_gc
from tests.commands import Commands
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
PROBED = tiny_config(
    policies=["LRTUNER()", "AUTOLRS(stages=6, trials=6)"], control=False, training={"epochs": 24, "batch_size": 64}
)
# Save, and be killed while saving, often. Workers save less often: they are processes of their own.
OFTEN = """
from lrensemble.training import member
member.CHECKPOINT_SECONDS, member.CHECKPOINT_SHARE = 0.02, 1e9
"""
# Say, by a file, that the process is in the middle of a probe.
MARKED = """
import contextlib, pathlib
from lrensemble.training.probing import Prober
measured = Prober._measured
@contextlib.contextmanager
def marked(self):
    with measured(self):
        pathlib.Path("probing").touch()
        yield
        pathlib.Path("probing").unlink()
Prober._measured = marked
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with Commands(tmp_path_factory.mktemp("commands")) as running:
        yield running


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


def kill(
    commands: Commands,
    folder: Path,
    quiet: Path,
    workers: int,
    kills: int,
    longest: float,
    seed: int,
    config: dict[str, Any] = CONFIG,
    before: str = OFTEN,
) -> tuple[int, int]:
    """Kill `kills` trainers while they train; return on how many pools, and how often it was within a probe."""
    rng = random.Random(seed)
    (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    options = ["--workers", str(workers), "--threads", "1", "--devices", "cpu"]
    hits, pools, probing = 0, 0, 0
    while hits < kills:
        pools += 1
        path, earlier, code = folder / str(pools), {}, 1
        while code:
            commands.start(["train", "config.yaml", "--pool", str(path), *options], folder, before=before)
            if hits < kills:
                # Of CPU, where one process does everything.
                (commands.wait_until if workers == 1 else time.sleep)(rng.uniform(0, longest))
                if workers == 1 or rng.random() < 0.5:
                    commands.kill()
                commands.kill(alone=True)
            done = commands.wait()
            code = done.code
            assert code in (0, -signal.SIGKILL), done.err
            hits += code != 0
            if (folder / "probing").exists():
                (folder / "probing").unlink()
                probing += 1
            now = finished(path)
            assert earlier.items() <= now.items()  # what was finished is so, and was not trained again
            earlier = now
        assert contents(path) == contents(quiet)
        assert not list(path.rglob("members/**/*.tmp"))
        collect(plan_gc(Pool.open(path)))  # where the kill came between a member's last record and the end of its state
        assert not list(path.rglob("state.pt"))
    return pools, probing


def test_killed_and_resumed_equals_quiet(commands: Commands, quiet: Path, tmp_path: Path):
    kill(commands, tmp_path, quiet, workers=1, kills=8, longest=1.0, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kills", "longest"), [(1, 170, 0.8), (2, 30, 8.0)])
def test_killed_200_times(commands: Commands, quiet: Path, tmp_path: Path, workers: int, kills: int, longest: float):
    print(kill(commands, tmp_path, quiet, workers, kills, longest, seed=100 + workers), "pools")


@pytest.mark.slow
def test_killed_40_times_while_probing(commands: Commands, tmp_path: Path):
    """Also in the middle of probes; the members have the weights, traces and measurements of those of a quiet run."""

    def found(pool: Pool) -> dict[str, tuple[Any, ...]]:
        return {member.id: (member.record.trace, member.record.control) for member in pool.complete}

    (tmp_path / "config.yaml").write_text(json.dumps(PROBED), encoding="utf-8")
    options = ["--workers", "1", "--threads", "1", "--devices", "cpu"]
    commands.start(["train", "config.yaml", "--pool", "quiet", *options], tmp_path)
    done, quiet = commands.wait(), Pool.open(tmp_path / "quiet")
    assert len(found(quiet)) == 2 and all(control["probes"] for _, control in found(quiet).values())
    pools, probing = kill(commands, tmp_path, quiet.path, 1, 40, 0.9 * done.cpu, 13, PROBED, OFTEN + MARKED)
    assert all(found(Pool.open(tmp_path / str(number + 1))) == found(quiet) for number in range(pools))
    print(pools, "pools;", probing, "kills within a probe")
    assert probing >= 4
