"""What all pools say about LR policies: the actions sync, top and tasks of ``lrensemble policies``.

One database, made from the pools, answers which policy is best: an Optuna storage (a file, or PostgreSQL for a group),
so optuna-dashboard shows it, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from lrensemble.cli import output

ORDERS = ("accuracy", "nll", "iterations-to-target", "seconds", "robustness")
STORAGE = "sqlite:///checkpoints/policies.db"


def add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage",
        metavar="URL",
        default=STORAGE,
        help=f"sqlite:///FILE, a file's path, or postgresql://USER@HOST/NAME (default: {STORAGE})",
    )


def add_actions(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    sync = add("sync", "add every finished run of pools to the database of policies")
    sync.add_argument("pools", metavar="FOLDER", nargs="+", help="pools, or folders of pools")
    top = add("top", "the best policies of a task, by all pools of the database")
    orders = f"{', '.join(ORDERS)} (default: accuracy, on validation)"
    top.add_argument("--by", metavar="ORDER", choices=ORDERS, default="accuracy", help=orders)
    top.add_argument("--target", metavar="SHARE", type=float, help="validation accuracy (default: the median run's)")
    top.add_argument("-n", metavar="N", type=output.whole(), default=10, help="so many policies (default: 10)")
    tasks = add("tasks", "the tasks of the database")
    for chooser in (top, tasks):
        chooser.add_argument("--data", metavar="NAME")
        chooser.add_argument("--model", metavar="NAME")
        chooser.add_argument("--optimizer", metavar="NAME")
        chooser.add_argument("--batch-size", metavar="N", type=output.whole(1, 10**9))
        chooser.add_argument("--epochs", metavar="N", type=output.whole())
    for action in (sync, top, tasks):
        add_storage(action)
        output.add_format(action)


def sync_pools(args: argparse.Namespace) -> int:
    from rich.progress import Progress

    from lrensemble.recommend.database import find_pools, sync
    from lrensemble.recommend.store import open_store

    pools = find_pools(args.pools)
    store = open_store(args.storage, create=True)
    with Progress(console=output.console(stderr=True), transient=True) as progress:
        bar = progress.add_task("sync", total=None)
        result = sync(store, pools, tell=lambda done, total: progress.update(bar, completed=done, total=total))
    if args.format == "json":
        output.print_json({"storage": store.url, **vars(result)})
        return 0
    left = "".join(f", {count} left out ({reason})" for reason, count in sorted(result.left_out.items()))
    output.say(
        f"{store.url}: {result.added} runs added, {result.known} were there, from {result.pools} pools and "
        f"{result.tasks} tasks{left}"
    )
    output.say_next("lrensemble policies tasks")
    return 0


def print_top(args: argparse.Namespace) -> int:
    from lrensemble.recommend.database import choose_tasks, read_tasks
    from lrensemble.recommend.ranking import check_target, default_target, rank
    from lrensemble.recommend.store import open_store

    if args.target is not None:
        check_target(args.target)
    found = []
    for one in _chosen(args, read_tasks(open_store(args.storage)), choose_tasks):
        target = args.target if args.target is not None else default_target(one.runs)
        found.append((one.task, target, rank(one.task, one.runs, args.by, target)))
    if args.format == "json":
        output.print_json(
            [
                {
                    "task": task,
                    "study": task.study,
                    "split": "validation",
                    "by": args.by,
                    "target": target,
                    "policies": rows[: args.n],
                }
                for task, target, rows in found
            ]
        )
        return 0
    for task, target, rows in found:
        print_ranking(f"{task}: {len(rows)} policies by {args.by}", rows[: args.n], target)
        bad = [row for row in rows if row.n == 0]
        if bad:
            what = ", ".join(f"{row.policy} ({row.diverged} diverged, {row.stopped} stopped)" for row in bad[:5])
            output.say(f"never complete: {what}{' ...' if len(bad) > 5 else ''}")
    return 0


def print_ranking(title: str, rows: Sequence[Any], target: float | None) -> None:
    """A table of ranked policies (`recommend.ranking.Row`)."""
    split = f"validation, n = {rows[0].rows:,}" if rows else "validation"
    goal = f"{100 * target:.1f} %" if target is not None else "the target"
    output.print_rows(
        title,
        [
            {
                "<policy": row.policy,
                "seeds": str(row.n) + (f" (+{row.diverged} diverged)" if row.diverged else ""),
                "accuracy %": output.percent(row.accuracy),
                "± se": output.percent(row.se),
                "sd over seeds": output.percent(row.sd),
                f"steps to {goal}": "-" if row.steps is None else f"{row.steps:,.0f}",
                "reached": f"{row.reached}/{row.asked}",
                "NLL": output.number(row.nll),
                "seconds to it": output.number(row.seconds_to, 2),
                "val - train loss": output.number(row.loss_difference, 3),
                "mean (worst) % over LR factors": "-"
                if row.robustness is None
                else f"{output.percent(row.robustness.mean)} ({output.percent(row.robustness.worst)}) "
                f"x{', '.join(f'{factor:g}' for factor in row.robustness.factors)}",
            }
            for row in rows
        ],
        f"{split}: se is of these rows, sd of training again with another seed. Steps are as fine as the evaluations: "
        "one an epoch. Diverged runs count as chance over LR factors.",
    )


def print_tasks(args: argparse.Namespace) -> int:
    from lrensemble.recommend.database import choose_tasks, read_tasks
    from lrensemble.recommend.store import open_store

    store = open_store(args.storage)
    rows = []
    for one in _chosen(args, read_tasks(store), choose_tasks):
        best = max((run for run in one.runs if run.accuracy is not None), key=lambda run: run.accuracy, default=None)
        counts = {s: sum(run.status == s for run in one.runs) for s in ("complete", "diverged", "stopped")}
        rows.append((one, counts, best))
    if args.format == "json":
        output.print_json(
            [
                {
                    "study": one.task.study,
                    "task": one.task,
                    "policies": len({run.policy for run in one.runs}),
                    **counts,
                    "best": {"policy": best.policy, "accuracy": best.accuracy, "val_rows": best.val_rows}
                    if best
                    else None,
                }
                for one, counts, best in rows
            ]
        )
        return 0
    output.print_rows(
        f"{store.url}: {len(rows)} tasks",
        [
            {
                "<task": str(one.task),
                "policies": str(len({run.policy for run in one.runs})),
                "best val accuracy %": output.percent(best.accuracy if best else None),
                "± se": output.standard_error(best.accuracy, best.val_rows) if best else "-",
                **{status: str(count) for status, count in counts.items()},
                "<with": best.policy if best else "-",
            }
            for one, counts, best in rows
        ],
        "The best of many is better by luck than it is: top gives means over seeds.",
    )
    return 0


def _chosen(args: argparse.Namespace, tasks: list[Any], choose: Callable[..., list[Any]]) -> list[Any]:
    names = ("data", "model", "optimizer", "batch_size", "epochs")
    return choose(tasks, **{name: getattr(args, name) for name in names})
