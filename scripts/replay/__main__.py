"""Replay the order in which strategies would have trained the members of fully trained pools.

All strategies begin with the same 3 random members (one draw a start). After every training the team is chosen on
validation (greedy, NLL) from the complete members so far; the test split only looks on. Brackets: 95 % bootstrap
intervals of a mean over the starts, for differences paired by start: how much the luck of the start matters on *this*
pool, not how much another pool or other rows would differ.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from lrensemble import Pool, UserError
from lrensemble.cli import output
from lrensemble.errors import did_you_mean
from lrensemble.metrics import bootstrap_means, percentile_interval
from lrensemble.pool.files import write_json
from scripts.replay import replay
from scripts.replay.bench import read_bench
from scripts.replay.plot import draw_replays
from scripts.replay.shell import one_line
from scripts.replay.tpe import tpe

BUDGETS = (3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200)
MEASURES = ("val_nll", "test_nll", "test_accuracy", "seconds")
BASE = "random"
STRATEGIES = {
    BASE: replay.random_order,
    "grid order": replay.grid_order,
    "expected best": replay.expected_best,
    "TPE": tpe,
    "ours": replay.expected_gain,
    "clairvoyant best": replay.clairvoyant_best,
    "clairvoyant gain": replay.clairvoyant_gain,
}


def one(task: tuple[str, int]) -> tuple[str, int, list[list[float]]]:
    """Scores of one strategy from one start: (budgets, measures)."""
    name, seed = task
    strategy: Any = STRATEGIES[name]
    if name.startswith("clairvoyant"):
        strategy = strategy(BENCH)
    order = replay.replay(strategy, BENCH, budget=POINTS[-1], seed=seed)
    scores = replay.scores(order, BENCH, POINTS)
    return name, seed, [[np.nan if s is None else getattr(s, m) for m in MEASURES] for s in scores]


def run(path: str, names: list[str], starts: int, budget: int | None, jobs: int) -> dict[str, Any]:
    """Replay one pool; the numbers as plain data."""
    global BENCH, POINTS
    pool = Pool.open(path)
    BENCH = read_bench(pool)
    most = min(len(BENCH), budget or len(BENCH) // 2)
    POINTS = [b for b in BUDGETS if b < most] + [most]
    tasks = [(name, seed) for seed in range(starts) for name in names]
    found = {name: np.full((starts, len(POINTS), len(MEASURES)), np.nan) for name in names}
    begin = time.perf_counter()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        bar_id = bar.add_task(f"replaying {path}", total=len(tasks))
        with multiprocessing.get_context("fork").Pool(jobs) as workers:  # the predictions are not copied
            for name, seed, scores in workers.imap_unordered(one, tasks):
                found[name][seed] = scores
                bar.advance(bar_id)
    return {
        "name": pool.task.name,
        "pool": str(path),
        "members": len(BENCH),
        "complete": int(BENCH.complete.sum()),
        "rows": pool.task.rows,
        "starts": starts,
        "budgets": POINTS,
        "minutes": (time.perf_counter() - begin) / 60,
        "strategies": {
            name: {
                measure: _curve(values[:, :, m], found[BASE][:, :, m] if BASE in found else None)
                for m, measure in enumerate(MEASURES)
            }
            for name, values in found.items()
        },
    }


def _curve(values: Any, base: Any) -> dict[str, Any]:
    """Means over starts with intervals, and differences from the base strategy: values (starts, budgets)."""
    curve: dict[str, Any] = {"budgets": POINTS, **_intervals(values)}
    if base is not None:
        curve["over_random"] = _intervals(values - base)
    return curve


def _intervals(values: Any) -> dict[str, list[float]]:
    full = values[~np.isnan(values).any(1)]  # a start with three diverged members has no team at first
    samples = bootstrap_means(full.T)
    pairs = [percentile_interval(column) for column in samples.T]
    return {"mean": full.mean(0).tolist(), "low": [low for low, _ in pairs], "high": [high for _, high in pairs]}


def show(result: dict[str, Any]) -> None:
    rows, points = result["rows"], result["budgets"]
    for measure, factor, digits, title in (
        ("val_nll", 1, 4, f"validation NLL (n = {rows['val']:,})"),
        ("test_accuracy", 100, 2, f"test accuracy % (n = {rows['test']:,})"),
    ):
        table = []
        for name, curves in result["strategies"].items():
            curve = curves[measure]
            table.append([name, *(f"{factor * x:.{digits}f}" for x in curve["mean"])])
            if name != BASE and "over_random" in curve:
                d = curve["over_random"]
                cells = [
                    f"[{factor * low:+.{digits}f}, {factor * high:+.{digits}f}]"
                    for low, high in zip(d["low"], d["high"], strict=True)
                ]
                table.append(["  minus random", *cells])
        output.print_table(
            f"{result['name']}, {result['members']} members ({result['complete']} complete), {result['starts']} "
            f"starts: {title} against members trained",
            ["<strategy", *map(str, points)],
            table,
        )


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(
        "scripts/bench_replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pools", metavar="POOL", nargs="+")
    parser.add_argument("--starts", type=int, default=50)
    parser.add_argument("--budget", type=int, help="members to train (default: half of the pool)")
    parser.add_argument("--strategies", metavar="NAME", nargs="+", help=f"default: all: {', '.join(STRATEGIES)}")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="png, svg or html")
    args = parser.parse_args()
    names = args.strategies or list(STRATEGIES)
    for name in names:
        if name not in STRATEGIES:
            raise UserError(f"unknown strategy {name!r}: {did_you_mean(name, STRATEGIES)}")
    if args.starts < 2:
        raise UserError(f"--starts {args.starts} is not possible: an interval needs 2 or more")
    if args.budget is not None and args.budget <= replay.START:
        raise UserError(f"--budget {args.budget} is not possible: the first {replay.START} members are random")
    results = []
    for path in args.pools:
        results.append(run(path, names, args.starts, args.budget, args.jobs))
        show(results[-1])
    if args.json:
        write_json(args.json, results)
    if args.plot:
        draw_replays(results, args.plot)


if __name__ == "__main__":
    sys.exit(main())
