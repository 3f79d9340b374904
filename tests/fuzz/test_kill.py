"""kill -9 at random moments of every command that writes, state.pt damaged in between: bit-equal, or refused.

A moment is a file operation (the n-th that Python is asked for), so a fast or busy machine changes nothing; the slow
form kills at random times as well, in the middle of one. ``python -m tests.fuzz.test_kill COMMAND SEED`` replays one.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lrensemble import Pool
from tests.commands import OPERATIONS, Commands, Done
from tests.fuzz.mutations import WORLD, cut, flip_bit
from tests.fuzz.world import JSON, TRAIN, build, numbers

pytest.importorskip("onnxruntime")

WRITERS: dict[str, tuple[str, ...]] = {
    "train": ("train", "pool.yaml", "--pool", "pool", *TRAIN, *JSON),
    "select": ("select", "pool", "--selector", "greedy,top-k", *JSON),
    "evaluate": ("evaluate", "pool", *JSON),
    "report": ("report", "pool"),
    "export": ("export", "pool", "all", "-o", "new", "--as", "safetensors", "--no-benchmark", *JSON),
    "replace": ("export", "pool", "greedy", "-o", "team", "--as", "safetensors", "--no-benchmark", "--force", *JSON),
    "soup": ("soup", "pool", *JSON),
    "import": ("import", "new", "runs", "--labels", "labels.npz", *JSON),
    "gc": ("gc", "pool", "--max-size", "0", "--yes", *JSON),
    "database": ("policies", "sync", "pool", "--storage", "policies.db", *JSON),
    "run": ("propose", "--train", "pool.yaml", "--pool", "pool", "--rounds", "1", "-n", "1", *TRAIN, *JSON),
    "verify": ("verify", "FIX(0.02)", "pool.yaml", "--target", "0.99", "--pool", "new", "--threads", "1", *JSON),
}
HASHED = re.compile(r"sha256|hash|git|^files$|^environment$")
DONE = "holds an exported team already"  # export, after a kill that came when it had done its work


def contents(world: Path) -> dict[str, Any]:
    """All that must be the same in the end: documents without dates and seconds, other files to the bit."""
    found: dict[str, Any] = {}
    for path in sorted(world.rglob("*")):
        name = str(path.relative_to(world))
        if not path.is_file() or ".tmp" in {Path(part).suffix for part in path.parts} or path.name == ".lock":
            continue
        if path.suffix in (".json", ".jsonl"):
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            found[name] = [_without_hashes(numbers(json.loads(line))) for line in lines]
        elif path.suffix in (".npy", ".safetensors", ".pt2", ".onnx", ".pt"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = path.suffix in (".html", ".db", ".md") or path.read_bytes()
    return found


def _without_hashes(value: Any) -> Any:
    """The hash of a history or record covers its seconds."""
    if isinstance(value, dict):
        return {k: _without_hashes(v) for k, v in value.items() if not HASHED.search(k)}
    return [_without_hashes(inner) for inner in value] if isinstance(value, list) else value


class Killer:
    """A world, the commands that write into it, and what they leave when nobody kills them."""

    def __init__(self, scratch: Path, commands: Commands) -> None:
        self.scratch, self.commands = scratch, commands
        self.world = build(scratch)
        self.quiet: dict[str, tuple[dict[str, Any], int, float]] = {}

    def copy(self) -> Path:
        shutil.rmtree(self.scratch / "copy", ignore_errors=True)
        return Path(shutil.copytree(self.world, self.scratch / "copy" / WORLD))

    def run(self, name: str, world: Path, last: int = 0, after: float | None = None) -> Done:
        """Run a command, killed at operation `last` or `after` so many seconds."""
        before = OPERATIONS.replace("LAST", str(last)).replace("MARKS", repr(str(self.scratch / "marks")))
        self.commands.start(WRITERS[name], world, before=before)
        if after is not None:
            time.sleep(after)
            self.commands.kill()
        return self.commands.wait()

    def quietly(self, name: str) -> tuple[dict[str, Any], int, float]:
        """Contents in the end, number of operations, seconds."""
        if name not in self.quiet:
            world, start = self.copy(), time.perf_counter()
            done = self.run(name, world)
            seconds = time.perf_counter() - start
            assert done.code in (0, 1) and "Traceback" not in done.err, done.err
            self.quiet[name] = contents(world), (self.scratch / "marks").stat().st_size, seconds
        return self.quiet[name]

    def kill(self, name: str, seed: int, *, by_time: bool = False) -> int:
        """Kill a command once to three times, then let it end; return the number of kills."""
        expected, operations, seconds = self.quietly(name)
        random, world, kills = Random(f"{name} {seed}"), self.copy(), 0
        where = f"python -m tests.fuzz.test_kill {name} {seed}"
        damaged = False
        for _ in range(random.randint(1, 3)):
            last = random.randint(1, max(operations, 1))
            done = self.run(name, world, **({"after": random.uniform(0, seconds)} if by_time else {"last": last}))
            kills += done.code == -signal.SIGKILL
            refused = done.code == 2 and (damaged or DONE in done.err)
            assert refused or done.code in (0, 1, -signal.SIGKILL), f"{where}: {done.err}"
            assert "Traceback" not in done.err, f"{where}: {done.err}"
            Pool.open(world / "pool").predictions("val")  # opens at any moment, and what is complete is whole
            for state in world.rglob("state.pt") if name in ("train", "run") else []:
                if random.random() < 0.5:
                    state.write_bytes(random.choice([flip_bit, cut])(bytearray(state.read_bytes()), random))
                    damaged = True
        done = self.run(name, world)
        assert "Traceback" not in done.err, f"{where}: {done.err}"
        if done.code == 2 and DONE not in done.err:
            assert done.err.count("error: ") == 1, f"{where}: {done.err}"
            assert damaged, f"{where}: refused after a kill alone: {done.err}"
            return kills
        assert done.code in (0, 1, 2), f"{where}: {done.err}"
        found = contents(world)
        different = [path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)]
        assert not different, f"{where}: other contents: {different}"
        return kills


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    folder = tmp_path_factory.mktemp("kill")
    with Commands(folder) as commands:
        yield Killer(folder, commands)


@pytest.mark.parametrize("name", WRITERS)
def test_killed_between_operations_ends_like_quiet(killer: Killer, name: str):
    assert killer.kill(name, seed=1) > 0


@pytest.mark.slow
@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.parametrize("name", WRITERS)
def test_200_kills(killer: Killer, name: str, by_time: bool):
    """9 of every command and way, at least: 216."""
    kills, seed = 0, 1000
    while kills < 9:
        kills += killer.kill(name, seed, by_time=by_time)
        seed += 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, Commands(Path(place)) as running:
        Killer(Path(place), running).kill(sys.argv[1], int(sys.argv[2]))
