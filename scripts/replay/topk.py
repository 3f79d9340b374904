"""Replay the search for the LR policy of a task: random policies against the top k that other tasks recommend.

LRBench++ (Jin et al. 2023, arXiv 2309.08859) searches the top-k policies of its recommender. Here every pool in turn
is the new task; the others rank its policies (`lrensemble policies top`, mean place over tasks, validation alone). A
search trains one policy after the other, each as long as any other, so that equal runs are equal updates; its answer
after n runs is the best on validation, and beside it the team (greedy, NLL) of the n runs. The test split only looks
on. Brackets: 95 % bootstrap intervals over orders and rows jointly, paired; other tasks and seeds differ by more.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrensemble import Pool, UserError
from lrensemble.array import Array
from lrensemble.cli import output
from lrensemble.metrics import correct_rows, nll_rows, percentile_interval
from lrensemble.pool.files import write_json
from lrensemble.recommend.ranking import rank
from lrensemble.recommend.runs import followed, read_runs, run_of
from lrensemble.recommend.setting import Setting
from scripts.replay.bench import read_bench
from scripts.replay.replay import Bench, team_of
from scripts.replay.shell import one_line

RUNS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)
MEASURES = {"accuracy": (correct_rows, 100, 2), "nll": (nll_rows, 1, 4)}
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Task:
    """A pool as a task to search a policy for.

    Attributes
    ----------
    ranking : its policies, best on validation first: what it tells other tasks
    updates : of one run
    """

    name: str
    fingerprint: str
    bench: Bench
    ranking: list[str]
    updates: int


def read_task(path: str, by: str) -> Task:
    pool = Pool.open(path)
    members = read_runs(pool, "val", "test")
    specs = followed(members)
    if len({(spec.training.epochs, spec.training.batch_size) for spec in specs}) > 1:
        raise UserError(f"{path}: its runs have several budgets or batch sizes: equal runs would not be equal updates")
    setting = Setting.of(pool.task.data, pool.task.data_fingerprint, members[0].record.spec)
    rows = rank(setting, [run_of(pool, member) for member in members], by)
    updates = max(int(member.record.costs["steps"]) for member in members)
    return Task(pool.task.name, pool.task.data_fingerprint, read_bench(pool), [row.policy for row in rows], updates)


def mean_places(policies: Sequence[str], rankings: Sequence[Sequence[str]]) -> Array:
    """(Q,) mean place of every policy in the rankings, among those of `policies`: 0 to 1; infinite where in none."""
    places: list[list[float]] = [[] for _ in policies]
    for ranking in rankings:
        known = [policy for policy in ranking if policy in policies]
        for place, policy in enumerate(known):
            places[policies.index(policy)].append(place / max(1, len(known) - 1))
    return np.array([np.mean(of) if of else np.inf for of in places])


def recommended(places: Array, ties: Array) -> Array:
    """Orders (orders, k) of the policies that have a place, the lowest first; equal ones as in `ties` (orders, Q)."""
    keys = ties.argsort(1), np.broadcast_to(places, ties.shape)
    return np.lexsort(keys)[:, : np.isfinite(places).sum()]


def as_in(order: Array, chosen: Array) -> Array:
    """The `chosen` policies (orders, k), of a permutation (orders, Q) each, in its order."""
    return np.take_along_axis(chosen, np.take_along_axis(order.argsort(1), chosen, 1).argsort(1), 1)


def best_so_far(bench: Bench, runs: Array, by: str) -> Array:
    """The run that is best on validation after each of `runs` (orders, n): by accuracy, then NLL, or the other way."""
    accuracy, nll = bench.right.mean(1), -np.log(bench.true.clip(1e-300)).mean(1)
    keys = (nll, -accuracy) if by == "accuracy" else (-accuracy, nll)
    order = np.lexsort((*keys, ~bench.complete))
    return order[np.minimum.accumulate(order.argsort()[runs], 1)]


def compare(task: Task, others: Sequence[Task], tops: Sequence[int], orders: int, by: str) -> dict[str, Any]:
    """Searches of one task by the rankings of `others`; the numbers as plain data."""
    bench, rng = task.bench, np.random.default_rng(0)
    policies = [*dict.fromkeys(bench.policies)]
    places = mean_places(policies, [other.ranking for other in others])
    if not (known := int(np.isfinite(places).sum())):
        raise UserError(f"{task.name}: the other pools have none of its policies: there is nothing to recommend")
    random, ties = (rng.permuted(np.tile(np.arange(len(policies)), (orders, 1)), axis=1) for _ in range(2))
    of_policy = [np.flatnonzero([policy == own for own in bench.policies]) for policy in policies]
    drawn = np.stack([rng.choice(runs, orders) for runs in of_policy], 1)  # one seed of every policy
    ranked = recommended(places, ties)
    searches = {"random": random, **{f"top {k}": as_in(random, ranked[:, :k]) for k in tops if k <= known}}
    searches["best first"] = ranked
    points = [n for n in RUNS if n < len(policies)] + [len(policies)]
    counts = [rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for n in (orders, *map(len, _labels(bench)))]
    scores: dict[str, dict[str, Any]] = {}
    for answer, rows_of in {"best": _rows_of_best(bench, by), "team": _rows_of_team(bench)}.items():
        base: list[list[Array]] = []
        for name, search in searches.items():
            runs = np.take_along_axis(drawn, search, 1)
            found = [rows_of(runs[:, :n]) for n in points if n <= runs.shape[1]]
            base = base or found
            cells = {}
            for m, (split, measure) in enumerate((s, m) for s in ("val", "test") for m in MEASURES):
                weights = counts[0], counts[1 if split == "val" else 2]
                values = [rows[m] for rows in found]
                curve = {"runs": points[: len(found)], **_intervals(values, *weights)}
                if name != "random":
                    minus = [rows - other[m] for rows, other in zip(values, base, strict=False)]
                    curve["over_random"] = _intervals(minus, *weights)
                cells[f"{split}_{measure}"] = curve
            scores.setdefault(name, {})[answer] = cells
    return {
        "name": task.name,
        "policies": len(policies),
        "recommended": [policies[i] for i in np.argsort(places, kind="stable")[: max(tops)]],
        "rows": {"val": len(bench.val_labels), "test": len(bench.test_labels)},
        "orders": orders,
        "updates_a_run": task.updates,
        "by": by,
        "ranked_by": {other.name: {"runs": len(other.bench), "updates_a_run": other.updates} for other in others},
        "searches": scores,
    }


def _labels(bench: Bench) -> tuple[Array, Array]:
    return bench.val_labels, bench.test_labels


def _measured(bench: Bench, val: Any, test: Any, is_known: Any) -> list[Array]:
    """Accuracy and NLL of every row, on validation and on test; nothing known is a guess."""
    measured = []
    for p, y in zip((val, test), _labels(bench), strict=True):
        right = correct_rows(p, y).astype(np.float64) if is_known else np.full(len(y), 1 / p.shape[1])
        measured += [right, nll_rows(p, y)]
    return measured


def _rows_of_best(bench: Bench, by: str) -> Callable[[Array], list[Array]]:
    every = [_measured(bench, *p) for p in zip(bench.val, bench.test, bench.complete, strict=True)]
    tables = [np.stack(rows) for rows in zip(*every, strict=True)]  # (M, rows)
    return lambda runs: [table[best_so_far(bench, runs, by)[:, -1]] for table in tables]


def _rows_of_team(bench: Bench) -> Callable[[Array], list[Array]]:
    @functools.cache
    def rows(members: tuple[int, ...]) -> list[Array]:
        team, first = team_of(bench, members), members[0]
        return _measured(bench, *(team or (bench.val[first], bench.test[first])), team)

    return lambda runs: [np.stack(of) for of in zip(*(rows(tuple(sorted(one))) for one in runs.tolist()), strict=True)]


def _intervals(values: Sequence[Array], orders: Array, rows: Array) -> dict[str, list[float]]:
    """Means of tables (orders, rows), with intervals over resampled orders (B, orders) and rows (B, rows)."""
    pairs = [percentile_interval(np.einsum("br,br->b", orders @ table, rows)) for table in values]
    return {
        "mean": [float(table.mean()) for table in values],
        "low": [low for low, _ in pairs],
        "high": [high for _, high in pairs],
    }


def show(result: dict[str, Any]) -> None:
    spent = sum(other["runs"] * other["updates_a_run"] for other in result["ranked_by"].values())
    output.say(
        f"{result['name']}: ranked by {', '.join(result['ranked_by'])}, which cost {spent:,} updates; a run here costs "
        f"{result['updates_a_run']:,}. First: {', '.join(result['recommended'][:3])}"
    )
    for name, answers in result["searches"].items():
        if minus := answers["best"]["test_accuracy"].get("over_random"):
            runs = minus["mean"], minus["low"], minus["high"], answers["best"]["test_accuracy"]["runs"]
            cells = [
                f"{n} {100 * m:+.2f} [{100 * lo:+.2f}, {100 * hi:+.2f}]" for m, lo, hi, n in zip(*runs, strict=True)
            ]
            output.say(f"  {name} over random, points of test accuracy by runs: {', '.join(cells[:4])}")
    for answer, what in (("best", "best on validation"), ("team", "team of the runs")):
        for split in ("val", "test"):
            for measure, (_, factor, digits) in MEASURES.items():
                table, points = [], result["searches"]["random"][answer]["val_nll"]["runs"]
                for name, answers in result["searches"].items():
                    curve = answers[answer][f"{split}_{measure}"]
                    table.append([name, *_padded([f"{factor * x:.{digits}f}" for x in curve["mean"]], points)])
                    if minus := curve.get("over_random"):
                        pairs = zip(minus["low"], minus["high"], strict=True)
                        cells = [f"[{factor * low:+.{digits}f}, {factor * high:+.{digits}f}]" for low, high in pairs]
                        table.append(["  minus random", *_padded(cells, points)])
                output.print_table(
                    f"{result['name']}, {what}: {split} {measure}{' %' if factor == 100 else ''} "
                    f"(n = {result['rows'][split]:,}) by runs, {result['orders']:,} orders",
                    ["<search", *map(str, points)],
                    table,
                )


def _padded(cells: list[str], points: Sequence[int]) -> list[str]:
    return cells + [""] * (len(points) - len(cells))


@one_line
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "scripts/bench_topk", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pools", metavar="POOL", nargs="+", help="two or more with the same policies, of other tasks")
    parser.add_argument("--top", metavar="K", type=output.whole(), nargs="+", default=[3, 6], help="default: 3 6")
    parser.add_argument("--orders", metavar="N", type=output.whole(2), default=500, help="default: 500")
    parser.add_argument("--by", choices=MEASURES, default="accuracy", help="on validation (default: accuracy)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    if len(args.pools) < 2:
        raise UserError(f"{args.pools[0]} alone: the policies of a task are recommended by others: give their pools")
    tasks = [read_task(path, args.by) for path in args.pools]
    pairs = zip(args.pools, tasks, strict=True)
    if twice := [path for path, task in pairs if task.fingerprint in [t.fingerprint for t in tasks if t is not task]]:
        raise UserError(f"{' and '.join(twice)} are of the same task: it would recommend itself")
    results = []
    for task in tasks:
        results.append(compare(task, [one for one in tasks if one is not task], args.top, args.orders, args.by))
        show(results[-1])
    if args.json:
        write_json(args.json, results)


if __name__ == "__main__":
    sys.exit(main())
