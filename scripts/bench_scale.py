"""The section `scale` of bench_selection: 1,000 members x 50,000 rows x 100 classes, 10 GB of float16 on disk.

Every job runs in a process of its own with `memory` of 1 GiB. Its own memory (anonymous: what the process allocated) is
sampled; pages of the mapped files, which the kernel takes back when it needs them, are not part of it.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

MEMBERS, ROWS, CLASSES, MEMORY = 1_000, 50_000, 100, 1 << 30
TIME_LIMIT = 120.0  # seconds, of greedy for accuracy


@contextlib.contextmanager
def pool_on_disk(members: int, rows: int, classes: int) -> Iterator[Path]:
    """A folder with one float16 file of probabilities a member, and the labels; removed afterwards."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, rows)
    shared = rng.normal(size=(rows, classes)).astype(np.float32)
    shared[np.arange(rows), y] += 2.5
    # Every member has another stretch of the same noise: drawing 5 * 10^9 numbers would take minutes.
    noise = rng.normal(size=rows * classes + 997 * members).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        np.save(f"{folder}/labels.npy", y)
        for m in range(members):
            p = shared + noise[997 * m : 997 * m + rows * classes].reshape(rows, classes) * (0.8 + 0.8 * m / members)
            np.exp(p, out=p)
            p /= p.sum(-1, keepdims=True)
            np.save(f"{folder}/{m:04}.npy", p.astype(np.float16))
        yield Path(folder)


def jobs() -> dict[str, Any]:
    """Job name -> function of predictions and labels that returns a note."""
    from lrensemble.diversity import count, predicted_labels
    from lrensemble.diversity.counts import checked
    from lrensemble.selection import Convex, Greedy, TopK

    def fitted(selector: Any) -> Any:
        def job(P: Any, y: Any) -> str:
            selector.fit(P, y, memory=MEMORY)
            steps = f", {len(selector.trajectory_)} steps" if selector.trajectory_ else ""
            return f"{len(selector.members_)} members{steps}{'; ' if selector.stopped_ else ''}{selector.stopped_}"

        return job

    def diversity(P: Any, y: Any) -> str:
        count(*checked(predicted_labels(P), y))
        return "counts of all pairs"

    return {
        "top-k (10)": fitted(TopK(size=10)),
        "greedy, NLL": fitted(Greedy()),
        "convex": fitted(Convex()),
        "diversity": diversity,
        "greedy, accuracy": fitted(Greedy(objective="accuracy", time_limit=TIME_LIMIT)),
    }


def own_memory() -> float:
    """Anonymous resident memory of this process now, MiB (Linux)."""
    return int(re.search(r"RssAnon:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def run(folder: Path, name: str) -> None:
    """Run one job here and print what it took as JSON."""
    from lrensemble.pool.predictions import Predictions

    y = np.load(folder / "labels.npy")
    paths = sorted(folder.glob("[0-9]*.npy"))
    P = Predictions(paths, np.load(paths[0], mmap_mode="r").shape)
    job, before, peak, done = jobs()[name], own_memory(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    note = job(P, y)
    took = time.perf_counter() - start
    done.set()
    watcher.join()
    print(json.dumps({"seconds": took, "mib": peak[0] - before, "input_mib": P.nbytes / 2**20, "note": note}))


def measure(quick: bool) -> Iterator[dict[str, Any]]:
    """Name, size, seconds, memory and note of every job."""
    shape = (100, 5_000, CLASSES) if quick else (MEMBERS, ROWS, CLASSES)
    with pool_on_disk(*shape) as folder:
        for name in jobs():
            out = subprocess.run(
                [sys.executable, __file__, folder, name], check=True, stdout=subprocess.PIPE, text=True
            )
            yield {"job": name, "size": " x ".join(f"{n:,}" for n in shape), **json.loads(out.stdout)}


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2])
