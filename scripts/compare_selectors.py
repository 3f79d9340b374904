"""Which selector holds what it promises? On real pools, over many divisions of the rows.

The validation and test rows of a pool (no member was trained on either) are put together and divided anew, stratified,
into parts of the same sizes. Every selector chooses on the first part and is scored on the second. Printed is the mean
over the divisions, and in brackets the range that holds 95 % of them: the spread over divisions of these rows, not a
confidence interval for other data or other training runs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lrensemble.evaluation.repeats import redivide
from lrensemble.pool import Pool
from lrensemble.selection import make_selector

SELECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "best single (accuracy)": ("best-single", {"objective": "accuracy"}),
    "all": ("all", {}),
    "random 5": ("random", {"size": 5}),
    "top-5": ("top-k", {"size": 5}),
    "top-k": ("top-k", {}),
    "greedy, NLL": ("greedy", {}),
    "greedy, NLL, 10 bags": ("greedy", {"bags": 10}),
    "greedy, accuracy": ("greedy", {"objective": "accuracy"}),
    "brute force, NLL": ("brute-force", {}),
    "brute force, accuracy": ("brute-force", {"objective": "accuracy"}),
    "focal (FQ, GD)": ("focal", {"metric": "GD", "max_teams": 300_000}),
    "hierarchical (HQ, GD)": ("hierarchical", {"metric": "GD", "max_teams": 300_000}),
    "diverse greedy (BD)": ("diverse", {}),
    "convex weights, NLL": ("convex", {}),
}

COLUMNS = (
    "selector",
    "members",
    "accuracy %",
    "over best single",
    "over top-5",
    "over all",
    "NLL",
    "promised too much",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", nargs="+", metavar="POOL")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--json", metavar="FILE", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for path in args.pools:
        pool = Pool.open(path)
        start = time.perf_counter()
        selectors = {name: make_selector(kind, **parameters) for name, (kind, parameters) in SELECTORS.items()}
        divisions = redivide(pool, selectors, args.splits)
        results = {name: result._asdict() for name, result in divisions.items()}
        found[path] = {name: {key: list(values) for key, values in result.items()} for name, result in results.items()}
        rows = pool.task.rows
        table = Table(
            title=f"{path}: {len(pool.complete)} members, {args.splits} divisions into {rows['val']:,} rows to select "
            f"on and {rows['test']:,} to score ({time.perf_counter() - start:.0f} s)"
        )
        for column in COLUMNS:
            table.add_column(column, justify="left" if column == "selector" else "right")
        for name, result in results.items():
            table.add_row(
                name,
                f"{result['size'].mean():.1f}",
                f"{100 * result['accuracy'].mean():.2f}",
                *(
                    spread(100 * (result["accuracy"] - results[other]["accuracy"]))
                    for other in ("best single (accuracy)", "top-5", "all")
                ),
                f"{result['nll'].mean():.4f}",
                f"{100 * (result['promised'] - result['accuracy']).mean():+.2f}",
            )
        Console(width=150).print(table)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))


def spread(values: np.ndarray) -> str:
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{values.mean():+.2f} [{low:+.2f}, {high:+.2f}]" if np.ptp(values) else f"{values.mean():+.2f}"


if __name__ == "__main__":
    main()
