"""Pools that are larger than one machine fills.

- commands: what they take in pools of 200 to 5,000 members, CPU seconds of a process each, its start included. The
  members are synthetic: real specs (random policies), records, histories and files, drawn predictions. `scaling` is the
  exponent between the two largest pools, of the seconds above those of a start: 1 is linear.
- overhead: seconds of a run of 2 s (asleep: a small network that naps after its first epoch) with two at a time, by
  worker processes, by shards and by Ray, after start-up: from the first member that was finished to the last.
- growth: the same for runs of 0.1 s, in pools of few and of many.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from lrensemble import Ray, load_config, train_pool
from lrensemble.pool import Named
from lrensemble.pool.writing import environment, reached, write_complete
from lrensemble.training import make_plan
from lrensemble.training.runner import create_pool
from lrensemble.training.shard import Shard

MEMBERS = (200, 1_000, 2_000, 5_000)
EPOCHS = 12
Row = dict[str, Any]


def config(members: int, **more: Any) -> Any:
    return load_config(
        {
            "name": "bench",
            "data": {"name": "digits", "val_fraction": 0.25},
            "model": {"name": "mlp", "hidden": [8]},
            "training": {"epochs": EPOCHS, "batch_size": 128},
            "policies": [{"sample": "COS(k0=log(1e-3, 1), k1=log(1e-5, 1e-4), l=uniform(10%, 100%))", "n": members}],
            **more,
        }
    )


def fill(members: int, path: Path) -> None:
    """A pool of complete members, with its configuration beside it; nothing is trained."""
    os.fsync = lambda file: None  # type: ignore[assignment]  # nobody cuts the power
    plan = make_plan(config(members), path / "pool")
    pool = create_pool(plan, plan.pool)
    (path / "config.json").write_text(plan.config.model_dump_json())
    rng = np.random.default_rng(0)
    labels = {split: pool.labels(split) for split in ("val", "test")}
    hard = {split: rng.normal(size=(len(y), 10)) for split, y in labels.items()}
    weights = {name: value.clone() for name, value in plan.runs[0].model.state_dict().items()}
    for member in pool.plan(plan.specs):
        probabilities, skill = {}, rng.uniform(1, 4)
        for split, y in labels.items():
            scores = hard[split] + rng.normal(size=hard[split].shape)
            scores[np.arange(len(y)), y] += skill
            probabilities[split] = torch.softmax(torch.from_numpy(scores), 1).numpy().astype(np.float32)
        right = float((probabilities["val"].argmax(1) == labels["val"]).mean())
        history = [
            {"step": 11 * e, "epoch": e, "lr": 0.1, "train_loss": 1 / e, "train_accuracy": right, "val_loss": 1 / e,
             "val_accuracy": right * (1 - 1 / (e + 1)), "seconds": 0.1 * e}
            for e in range(1, EPOCHS + 1)
        ]  # fmt: skip
        write_complete(
            member,
            labels=labels["val"],
            history=history,
            probabilities=probabilities,
            weights=weights,
            costs={"steps": 11 * EPOCHS, "seconds": 1.2, "parameters": 610, "flops": 1200},
            environment=environment(device="cpu", threads=1),
            targets=reached(history, (0.5,)),
        )


def commands(folder: Path) -> dict[str, list[str]]:
    """Name -> words of Python, in the order in which they can run."""
    pool, program = str(folder / "pool"), ["-m", "lrensemble"]
    opening = "from lrensemble import Pool; import sys; print(len(Pool.open(sys.argv[1]).complete))"
    return {
        "start": [*program, "--version"],
        "open": ["-c", opening, pool],
        "plan": [*program, "train", str(folder / "config.json"), "--pool", pool, "--dry-run", "--format", "json"],
        "ls": [*program, "ls", pool],
        "select": [*program, "select", pool],
        "evaluate": [*program, "evaluate", pool],
        "propose": [*program, "propose", pool],
        "database sync": [*program, "database", "sync", pool, "--storage", str(folder / "policies.db")],
        "sync again": [*program, "database", "sync", pool, "--storage", str(folder / "policies.db")],
    }


def measure(words: list[str]) -> Row:
    """CPU and wall seconds of a process."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    error = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed: {error[-2000:]}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "wall": time.perf_counter() - start}


def time_commands(sizes: list[int], only: list[str]) -> list[Row]:
    rows: dict[str, Row] = {}
    for members in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-cluster-") as name:
            subprocess.run([sys.executable, __file__, "--fill", str(members), name], check=True)
            for job, words in commands(Path(name)).items():
                if not only or job in only or job == "start":
                    rows.setdefault(job, {"job": job})[f"{members}"] = measure(words)
                    print(f"{members} {job}: {rows[job][f'{members}']}", file=sys.stderr)
    start = min(row["cpu"] for row in list(rows["start"].values())[1:])
    for row in rows.values():
        if len(sizes) > 1 and row["job"] != "start":
            few, many = (max(row[f"{n}"]["cpu"] - start, 0.05) for n in sizes[-2:])
            row["scaling"] = math.log(many / few) / math.log(sizes[-1] / sizes[-2])
    return list(rows.values())


def show(rows: list[Row], sizes: list[int]) -> None:
    table = Table(title="CPU seconds (of wall time) by members of the pool")
    table.add_column("command")
    for members in sizes:
        table.add_column(f"{members:,}", justify="right")
    table.add_column("scaling", justify="right")
    for row in rows:
        cells = [f"{row[f'{n}']['cpu']:.1f} ({row[f'{n}']['wall']:.1f})" for n in sizes]
        table.add_row(row["job"], *cells, f"{row['scaling']:.2f}" if "scaling" in row else "")
    Console().print(table)


def nap(spec: Any, history: Any, *, seconds: float) -> None:
    """A judge that stops nobody: the run takes so long."""
    time.sleep(seconds)


LANES = 2  # runs at a time


def train(engine: str, runs: int, seconds: float) -> Row:
    """Seconds of a run after start-up, and of all."""
    short = {"training": {"epochs": 2, "batch_size": 512}, "engine": {"stack": 1}}
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as name:
        folder = Path(name)
        (folder / "config.json").write_text(config(runs, **short).model_dump_json())
        shards = range(1, LANES + 1) if engine == "shards" else [0]
        began = time.time()
        words = [sys.executable, __file__, "--train", engine, str(folder), str(seconds)]
        processes = [subprocess.Popen([*words, str(shard)], stderr=subprocess.PIPE, text=True) for shard in shards]
        for process in processes:
            error = process.communicate()[1]
            if process.returncode:
                raise SystemExit(f"{engine}: {error[-2000:]}")
        done = sorted(path.stat().st_mtime for path in folder.glob("pool/members/*/record.json"))
    assert len(done) == runs
    return {
        "engine": engine,
        "runs": runs,
        "sleep": seconds,
        "seconds a run": (done[-1] - done[0]) / (runs / LANES - 1),
        "start-up": done[0] - began - seconds,
        "all": done[-1] - began,
    }


def train_here(engine: str, folder: Path, seconds: float, shard: int) -> None:
    judges = [Named.model_validate({"name": f"scripts.bench_cluster:{nap.__name__}", "seconds": seconds})]
    options: dict[str, Any] = {"local": {"workers": LANES}, "ray": {"on": Ray(), "workers": LANES}}.get(
        engine, {"workers": 1, "shard": Shard(max(shard, 1), LANES)}
    )
    train_pool(folder / "config.json", folder / "pool", judges=judges, threads=1, devices="cpu", **options)


def time_engines(cases: list[tuple[int, float]], engines: list[str]) -> list[Row]:
    rows = []
    for runs, seconds in cases:
        for engine in engines:
            rows.append(train(engine, runs, seconds))
            local = next(row for row in rows if row["runs"] == runs and row["engine"] == engines[0])
            rows[-1]["overhead"] = rows[-1]["seconds a run"] / local["seconds a run"] - 1
            print(rows[-1], file=sys.stderr)
    return rows


def show_engines(rows: list[Row]) -> None:
    table = Table(title=f"Runs that sleep, {LANES} at a time")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "engine" else "right")
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = ["commands", "overhead", "growth"]
    parser.add_argument("--only", choices=sections, nargs="+", default=sections)
    parser.add_argument("--members", type=int, nargs="+", default=list(MEMBERS), help="of the pools for commands")
    parser.add_argument("--job", nargs="+", default=[], help="of the commands")
    parser.add_argument(
        "--engines", nargs="+", default=["local", "shards", "ray"], help="the first one is compared with"
    )
    parser.add_argument("--quick", action="store_true", help="small pools, few runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fill", nargs=2, metavar=("MEMBERS", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--train", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fill:
        fill(int(args.fill[0]), Path(args.fill[1]))
        return
    if args.train:
        engine, folder, seconds, shard = args.train
        train_here(engine, Path(folder), float(seconds), int(shard))
        return
    found: dict[str, list[Row]] = {}
    if "commands" in args.only:
        sizes = [100, 200] if args.quick else args.members
        found["commands"] = time_commands(sizes, args.job)
        show(found["commands"], sizes)
    for section, cases in {
        "overhead": [(10, 2.0)] if args.quick else [(50, 2.0)],
        "growth": [(10, 0.1), (50, 0.1)] if args.quick else [(50, 0.1), (1_000, 0.1)],
    }.items():
        if section in args.only:
            found[section] = time_engines(cases, args.engines)
            show_engines(found[section])
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
