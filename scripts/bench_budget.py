"""How good a model do B trainings buy? Strategies replayed on banks where every run they may ask for is trained.

The team is always the greedy one (NLL on validation); the test split only looks on. "±" is the half width of the 95 %
interval (Student) of the mean over orders: the luck of seeds and candidates on *this* bank, not other data. Differences
are from "ours", paired by order.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble import Pool, UserError, load_config
from lrensemble.cli import output
from lrensemble.errors import did_you_mean
from lrensemble.metrics import t_interval
from lrensemble.pool.files import write_json
from scripts.replay import bank as banks
from scripts.replay.plot import draw_replays
from scripts.replay.shell import one_line
from scripts.replay.spend import ANYTIME, STRATEGIES, Bank, Deck, Strategy, read_bank, score, seeds_of

BUDGETS = (8, 12, 16, 24)
PANELS = (("nll", "Test NLL of the team, nats", 1), ("accuracy", "Test accuracy of the team, %", 100))
OURS = "ours"
SINGLE = "best single of "


def strategies_of(bank: Bank) -> dict[str, Strategy]:
    """All strategies that the bank has the runs for, with those of the fixed defaults."""
    fixed = [policy for policy in bank.runs_of if policy in banks.fixed()]
    is_measured = any(policy.startswith("LRTUNER(") for policy in bank.runs_of)
    able = {name: strategy for name, strategy in STRATEGIES.items() if is_measured or "measured" not in name}
    return {**able, **{f"seeds of {policy}": partial(seeds_of, policy) for policy in fixed}}


def curve(bank: Bank, name: str, strategy: Strategy, order: int) -> list[list[float]]:
    """Scores of one strategy in one order: (budgets, fields of `Score`)."""
    if name in ANYTIME:
        runs = strategy(Deck(bank, order), BUDGETS[-1])
        return [[*vars(score(bank, runs[:b])).values()] for b in BUDGETS]
    return [[*vars(score(bank, strategy(Deck(bank, order), b))).values()] for b in BUDGETS]


def replay(label: str, bank: Bank, names: list[str], orders: int) -> dict[str, Any]:
    found: dict[str, NDArray[Any]] = {}
    begin = time.perf_counter()
    for name, strategy in strategies_of(bank).items():
        if not names or name in names:
            found[name] = np.array([curve(bank, name, strategy, order) for order in range(orders)])
            print(f"{label}: {name}, {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    for name in [n for n in ("random + greedy", OURS) if n in found]:
        values = found[name]
        found[SINGLE + name.removesuffix(" + greedy")] = values[:, :, [0, 3, 4, 3, 4]]
    base = found.get(OURS)
    return {
        "name": label,
        "members": len(bank.specs),
        "complete": int(bank.complete.sum()),
        "rows": {"val": len(bank.val_labels), "test": len(bank.test_labels)},
        "orders": orders,
        "strategies": {
            name: {
                measure: {
                    "budgets": list(BUDGETS),
                    **means(values[:, :, m]),
                    **({} if base is None or name == OURS else {"minus_ours": means(values[:, :, m] - base[:, :, m])}),
                }
                for m, measure in enumerate(("seconds", "accuracy", "nll"))
            }
            for name, values in found.items()
        },
    }


def means(values: NDArray[Any]) -> dict[str, list[float]]:
    """Mean and 95 % interval (Student) over orders: values (orders, budgets)."""
    pairs = [t_interval(column.tolist()) or (np.nan, np.nan) for column in values.T]
    return {"mean": values.mean(0).tolist(), "low": [p[0] for p in pairs], "high": [p[1] for p in pairs]}


def show(result: dict[str, Any]) -> None:
    for measure, factor, digits in (("accuracy", 100, 2), ("nll", 1, 4)):
        table = []
        for name, curves in sorted(
            result["strategies"].items(),
            key=lambda item: (-1 if measure == "accuracy" else 1) * item[1][measure]["mean"][-1],
        ):
            row, minus = curves[measure], curves[measure].get("minus_ours")
            cells = [f"{factor * x:.{digits}f}" for x in row["mean"]]
            if minus:
                cells = [
                    f"{cell} ({factor * d:+.{digits}f} ± {factor * (high - d):.{digits}f})"
                    for cell, d, high in zip(cells, minus["mean"], minus["high"], strict=True)
                ]
            table.append([name, *cells, f"{curves['seconds']['mean'][-1]:.0f}"])
        output.print_table(
            f"{result['name']}: test {measure} (n = {result['rows']['test']:,}), minus ours, {result['orders']} orders",
            ["<strategy", *(f"B = {b}" for b in BUDGETS), f"seconds, {BUDGETS[-1]}"],
            table,
        )


def write_csv(path: Path, results: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["bank", "strategy", "measure", "trainings", "mean", "low", "high"])
        for result in results:
            for name, curves in result["strategies"].items():
                for measure, c in curves.items():
                    for row in zip(c["budgets"], c["mean"], c["low"], c["high"], strict=True):
                        writer.writerow([result["name"], name, measure, *row])


def run(args: argparse.Namespace) -> None:
    if args.job == "data":
        for path in banks.write_data(args.folder, args.fashion, args.cifar, args.text):
            print(path)
        return
    if args.job == "train":
        begin = time.process_time()
        pool = banks.train_bank(args.config, args.overrides, args.pool, BUDGETS[-1])
        print(f"{pool.path}: {len(pool.members)} runs, {time.process_time() - begin:.0f} CPU seconds")
        return
    if args.orders < 2:
        raise UserError(f"--orders {args.orders} is not possible: an interval needs 2 or more")
    results = []
    for text in args.banks:
        config, equals, pool = text.partition("=")
        if not equals:
            raise UserError(f"{text!r} is not CONFIG=POOL, for example configs/bank_digits.yaml=pools/digits")
        bank = read_bank(Pool.open(pool), banks.drawn(load_config(config)))
        for name in args.strategies:
            if name not in strategies_of(bank):
                raise UserError(f"unknown strategy {name!r}: {did_you_mean(name, strategies_of(bank))}")
        results.append(replay(Path(pool).name, bank, args.strategies, args.orders))
        show(results[-1])
    if args.json:
        write_json(args.json, results)
    if args.csv:
        write_csv(args.csv, results)
    if args.plot:
        draw_replays(results, args.plot, PANELS)


@one_line
def main() -> None:
    parser = argparse.ArgumentParser("scripts/bench_budget", description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True)
    data = jobs.add_parser("data", help="write the rows of the banks as FOLDER/NAME.npz")
    data.add_argument("folder", type=Path)
    data.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="IDX files")
    data.add_argument("--cifar", type=Path, default=Path("cifar100.npz"), help="train_images, train_labels, test_...")
    data.add_argument("--text", type=Path, default=Path("text"), help="folder with trec_train.jsonl, trec_test.jsonl")
    train = jobs.add_parser("train", help="train a bank; goes on where it was stopped")
    train.add_argument("config", type=Path)
    train.add_argument("overrides", nargs="*")
    train.add_argument("--pool", type=Path, required=True)
    play = jobs.add_parser("replay", help="replay the strategies")
    play.add_argument("banks", nargs="+", metavar="CONFIG=POOL")
    play.add_argument("--orders", type=int, default=30)
    play.add_argument("--strategies", nargs="+", default=[], metavar="NAME")
    play.add_argument("--json", type=Path)
    play.add_argument("--csv", type=Path)
    play.add_argument("--plot", type=Path)
    run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
