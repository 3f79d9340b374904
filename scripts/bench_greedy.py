"""Speed of greedy selection: 200 members x 10,000 rows x 10 classes, 50 steps, beside peers in the same run.

- plain loop: every candidate in every step, in NumPy; the picks must be identical;
- scikit-learn: the same loop with `accuracy_score` and `log_loss` (one step is timed, and multiplied);
- AutoGluon's EnsembleSelection, where a Python that has it is named (`--autogluon`): same predictions, same metric.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score, log_loss

from lrensemble.selection import Greedy

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.selection.oracles import plain_greedy

MEMBERS, ROWS, CLASSES, STEPS = 200, 10_000, 10, 50
LIMITS = {"accuracy": 0.5, "nll": 0.1}  # seconds


def make_pool(members: int, rows: int, classes: int, signal: float = 6.0, seed: int = 0) -> tuple[Any, Any]:
    """Members that share most of their errors, of uneven quality: with signal 6 accuracies of 0.65 to 0.87."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    common = rng.normal(size=(rows, classes)) * 1.5
    common[np.arange(rows), labels] += signal * rng.uniform(0.3, 2, rows)
    P = np.empty((members, rows, classes), dtype=np.float32)
    for m, quality in enumerate(rng.uniform(0.5, 1.5, members)):
        z = common * quality + rng.normal(size=(rows, classes)) * 1.5
        z = np.exp(z - z.max(-1, keepdims=True))
        P[m] = z / z.sum(-1, keepdims=True)
    return P, labels


def seconds(call: Callable[[], Any], repeats: int = 5) -> tuple[float, Any]:
    """Best of so many times, and the result."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - start)
    return best, result


def sklearn_step(P: Any, y: Any, objective: str) -> None:
    """The first step of the loop with scikit-learn's metrics."""
    for p in P:
        if objective == "accuracy":
            accuracy_score(y, p.argmax(1))
        else:
            log_loss(y, p, labels=range(p.shape[1]))


AUTOGLUON = """
import json, sys, time, warnings
import numpy as np
warnings.filterwarnings("ignore")
from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection
from autogluon.core.metrics import get_metric
folder, metric, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
P, y = np.load(folder + "/P.npy"), np.load(folder + "/y.npy")
start = time.perf_counter()
selection = EnsembleSelection(ensemble_size=steps, problem_type="multiclass", metric=get_metric(metric, "multiclass"))
selection.fit(list(P), y)
print(json.dumps({"seconds": time.perf_counter() - start, "weights": list(map(float, selection.weights_))}))
"""


def autogluon(python: str, P: Any, y: Any, objective: str) -> dict[str, Any]:
    """Seconds and weights of AutoGluon's greedy selection, run by a Python that has it."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/P.npy", P)
        np.save(f"{folder}/y.npy", y)
        metric = {"nll": "log_loss", "accuracy": "accuracy"}[objective]
        command = [python, "-c", textwrap.dedent(AUTOGLUON), folder, metric, str(STEPS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def bench_target(signal: float, python: str | None) -> list[dict[str, Any]]:
    """The target size, for both objectives, beside the peers."""
    P, y = make_pool(MEMBERS, ROWS, CLASSES, signal)
    accuracy = (P.argmax(-1) == y).mean(1)
    results = []
    for objective in ("accuracy", "nll"):
        ours, selector = seconds(partial(Greedy(objective=objective, steps=STEPS).fit, P, y))
        plain, picks = seconds(partial(plain_greedy, P, y, objective, steps=STEPS), 1)
        sklearn, _ = seconds(partial(sklearn_step, P, y, objective), 1)
        row: dict[str, Any] = {
            "pool": f"members' accuracy {accuracy.min():.2f} to {accuracy.max():.2f}",
            "objective": objective,
            "seconds": ours,
            "limit": LIMITS[objective],
            "plain_loop": plain,
            "identical_picks": [step.member for step in selector.trajectory_] == picks,
            "scikit_learn": sklearn * STEPS,
        }
        if python:
            row["autogluon"] = autogluon(python, P, y, objective)
            row["score"] = max(step.score for step in selector.trajectory_)
        results.append(row)
    return results


def bench_growth() -> list[dict[str, Any]]:
    """Seconds and peak memory beside the input's, over members, rows and classes."""
    results = []
    for shape in [(50, 10_000, 10), (200, 2_500, 10), (200, 40_000, 10), (800, 10_000, 10), (200, 10_000, 100)]:
        P, y = make_pool(*shape)
        for objective in ("accuracy", "nll"):
            greedy = Greedy(objective=objective, steps=STEPS)
            spent, _ = seconds(partial(greedy.fit, P, y), 2)
            tracemalloc.start()
            greedy.fit(P, y)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            results.append(
                {
                    "shape": shape,
                    "objective": objective,
                    "seconds": spent,
                    "peak_mb": peak / 1e6,
                    "input_mb": P.nbytes / 1e6,
                }
            )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--autogluon", metavar="PYTHON", help="a Python that has autogluon.core")
    parser.add_argument("--quick", action="store_true", help="the target size only")
    args = parser.parse_args()
    target = [row for signal in (6.0, 3.0) for row in bench_target(signal, args.autogluon)]
    growth = [] if args.quick else bench_growth()
    console = Console(width=140)
    table = Table(title=f"Greedy, {MEMBERS} members x {ROWS:,} x {CLASSES}, {STEPS} steps: seconds")
    for column in ("pool", "objective", "ours", "limit", "plain loop", "identical picks", "scikit-learn", "AutoGluon"):
        table.add_column(column)
    for row in target:
        other = row.get("autogluon", {})
        table.add_row(
            row["pool"],
            row["objective"],
            f"{row['seconds']:.3f}",
            f"{row['limit']:g}",
            f"{row['plain_loop']:.2f}",
            str(row["identical_picks"]),
            f"{row['scikit_learn']:.0f}",
            f"{other['seconds']:.1f}" if "seconds" in other else other.get("error", "-"),
        )
    console.print(table)
    if growth:
        table = Table(title="How it grows")
        for column in ("members x rows x classes", "objective", "seconds", "peak MB beside the input", "input MB"):
            table.add_column(column)
        for row in growth:
            shape = " x ".join(f"{n:,}" for n in row["shape"])
            table.add_row(
                shape, row["objective"], f"{row['seconds']:.3f}", f"{row['peak_mb']:.0f}", f"{row['input_mb']:.0f}"
            )
        console.print(table)
    if args.json:
        args.json.write_text(json.dumps({"target": target, "growth": growth}, indent=2) + "\n")


if __name__ == "__main__":
    main()
