"""What commands take in pools of 200, 1,000 and 5,000 members: CPU seconds of a process each, its start included.

The members are synthetic: real specs (random policies), records, histories and files, drawn predictions. `scaling` is
the exponent between the two largest pools, of the seconds above those of a start: 1 is linear.
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

from lrensemble import load_config
from lrensemble.pool.writing import environment, reached, write_complete
from lrensemble.training import make_plan
from lrensemble.training.runner import create_pool

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=list(MEMBERS))
    parser.add_argument("--job", nargs="+", default=[], help="of the commands")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fill", nargs=2, metavar=("MEMBERS", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fill:
        fill(int(args.fill[0]), Path(args.fill[1]))
        return
    rows = time_commands(args.members, args.job)
    show(rows, args.members)
    if args.json:
        args.json.write_text(json.dumps({"commands": rows}, indent=2))


if __name__ == "__main__":
    main()
