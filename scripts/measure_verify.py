"""How often does `lrensemble verify` give up a run that would have reached its target, and what does that save?

On finished runs of real pools: every run against targets at five quantiles of the pool's best accuracies, so that some
runs reach each and some do not. The constants of the rule are also chosen anew on all pools but one (the most saved
with at most 2 % wrong no's) and judged on the one left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lrensemble.pool import Pool
from lrensemble.recommend import curves as rule
from lrensemble.recommend.curves import Backtest, LearningCurve, backtest, finished_curves

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
GRID = {"GROWTH": (0.15, 0.3, 0.5, 0.8), "NOISE": (0.0, 1.0, 2.0), "DROP": (0.0, 0.05, 0.1, 0.2)}
MOST_WRONG = 0.02


def targets_between(curves: Sequence[LearningCurve], shares: Sequence[float]) -> list[float]:
    """Accuracies that some of the curves reach and some do not: quantiles of their best ones."""
    best = [float(curve.accuracy.max()) for curve in curves]
    return sorted({float(target) for target in np.quantile(best, shares)})


def measure(curves: Sequence[LearningCurve]) -> Backtest:
    """Over all targets: pairs of run and target."""
    found = [backtest(curves, target) for target in targets_between(curves, QUANTILES)]
    missed = [b.runs - b.reached for b in found]
    saved = float(np.average([b.saved for b in found], weights=missed)) if sum(missed) else 0.0
    return Backtest(*(sum(getattr(b, key) for b in found) for key in ("runs", "reached", "wrong")), saved)


def choose(pools: Sequence[Sequence[LearningCurve]]) -> dict[str, float]:
    """The constants that save most with few wrong no's, every pool counting the same."""
    best: tuple[float, dict[str, float]] = (-1.0, dict(zip(GRID, map(max, GRID.values()), strict=True)))
    for values in itertools.product(*GRID.values()):
        constants = dict(zip(GRID, values, strict=True))
        found = measured_with(constants, pools)
        wrong = np.mean([b.wrong / max(b.reached, 1) for b in found])
        saved = float(np.mean([b.saved for b in found]))
        if wrong <= MOST_WRONG and saved > best[0]:
            best = saved, constants
    return best[1]


def measured_with(constants: dict[str, float], pools: Sequence[Sequence[LearningCurve]]) -> list[Backtest]:
    before = {name: getattr(rule, name) for name in constants}
    try:
        vars(rule).update(constants)
        return [measure(curves) for curves in pools]
    finally:
        vars(rule).update(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", metavar="POOL", nargs="+")
    parser.add_argument("--cross-validate", action="store_true", help="also choose the constants anew (minutes)")
    parser.add_argument("--json", metavar="FILE", type=Path)
    args = parser.parse_args()
    names = [Path(path).name for path in args.pools]
    pools = [finished_curves(Pool.open(path)) for path in args.pools]
    shipped = [measure(curves) for curves in pools]
    rows: list[dict[str, Any]] = []
    for i, (name, curves, found) in enumerate(zip(names, pools, shipped, strict=True)):
        row: dict[str, Any] = {"pool": name, "runs": len(curves), "epochs": len(curves[0].lr), **_numbers(found)}
        if args.cross_validate and len(pools) > 1:
            constants = choose([other for j, other in enumerate(pools) if j != i])
            row["held_out"] = {"constants": constants, **_numbers(measured_with(constants, [curves])[0])}
        rows.append(row)
    table = Table(title="wrong no: runs given up that reached the target; saved: epochs of the runs that did not")
    for column in ("pool", "runs", "epochs", "wrong no", "saved", "held out: wrong no", "saved", "constants"):
        table.add_column(column)
    for row in rows:
        other = row.get("held_out")
        cells = [*_cells(other), str(other["constants"])] if other else ["-", "-", "-"]
        table.add_row(row["pool"], str(row["runs"]), str(row["epochs"]), *_cells(row), *cells)
    Console(width=180).print(table)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


def _numbers(found: Backtest) -> dict[str, float]:
    return {"reached": found.reached, "wrong": found.wrong, "saved": round(found.saved, 4)}


def _cells(row: dict[str, Any]) -> list[str]:
    share = 100 * row["wrong"] / max(row["reached"], 1)
    return [f"{row['wrong']} of {row['reached']} ({share:.1f} %)", f"{100 * row['saved']:.0f} %"]


if __name__ == "__main__":
    main()
