"""Which LR policy to use: search the policies of a configuration's data, model, optimizer and budget.

Finds the LR range (a range test, and what was best on a similar task in the database), tries policies of all functions
and their composites, stops bad ones early, and trains the best ones again with fresh seeds: their mean is what is
claimed. Every run is a member of the pool and a record of the database; stop it at any time, the same command goes on,
and several of them share the work.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lrensemble.cli import output
from lrensemble.cli.database import add_storage, print_ranking
from lrensemble.cli.options import add_devices, add_old_name, add_time, seconds

HELP = "search LR policies for a task, and confirm the best with fresh seeds"
SAMPLERS = ("tpe", "random", "cmaes", "gp", "grid")
PRUNERS = ("median", "halving", "hyperband", "none")
WORST = 10.0  # points below the best: a policy to avoid


def minutes(text: str) -> float:
    """Seconds of a number of minutes."""
    try:
        return seconds(f"{text}m")
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text[:100]} is not possible: a number of minutes, or --time 30m") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file; its policies do not matter")
    output.add_overrides(parser)
    parser.add_argument(
        "--pool", metavar="DIR", type=Path, help="where members go (default: checkpoints/<name>-search)"
    )
    parser.add_argument(
        "--target", metavar="SHARE", type=float, help="fewest steps to this validation accuracy, not highest accuracy"
    )
    parser.add_argument(
        "-n", "--trials", metavar="N", type=output.whole(), default=30, help="policies to search in all (default: 30)"
    )
    add_time(parser, "begin no new policy after this time")
    add_old_name(parser, "--minutes", "--time", type=minutes)
    parser.add_argument("--sampler", choices=SAMPLERS, default="tpe", help="default: tpe")
    parser.add_argument("--pruner", choices=PRUNERS, default="median", help="default: median")
    parser.add_argument("--finalists", metavar="N", type=output.whole(), default=3, help="trained again (default: 3)")
    parser.add_argument(
        "--seeds", metavar="N", type=output.whole(2), default=5, help="fresh seeds of each (default: 5)"
    )
    parser.add_argument(
        "--first-seed", metavar="N", type=output.whole(0, 2**62), default=1000, help="of the fresh ones (default: 1000)"
    )
    parser.add_argument("--baseline", action="store_true", help="also train Caffe's and PyTorch's default schedules")
    add_devices(parser)
    output.add_workers(parser, threads=1)
    add_storage(parser)
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.cli.progress import progress
    from lrensemble.recommend.ranking import check_target
    from lrensemble.recommend.recommend import recommend
    from lrensemble.recommend.store import open_store
    from lrensemble.training import load_config, make_plan

    if args.target is not None:
        check_target(args.target)
    config = load_config(args.config, args.overrides)
    # What a search stops is no member for teams: it has a pool of its own.
    plan = make_plan(config, args.pool or Path("checkpoints") / f"{config.name}-search")
    store = open_store(args.storage, create=True)

    def told(run: Any, count: int) -> None:
        what = (
            f"validation accuracy {output.percent(run.accuracy)} %"
            if run.is_complete
            else f"{run.status}: {run.reason}"
        )
        output.note(f"[{count}/{args.trials}] {run.policy}: {what}")

    found = recommend(
        plan,
        store,
        target=args.target,
        trials=args.trials,
        sampler=args.sampler,
        pruner=args.pruner,
        minutes=None if args.time is None else args.time / 60,
        finalists=args.finalists,
        seeds=args.seeds,
        first_seed=args.first_seed,
        with_defaults=args.baseline,
        options={
            "devices": args.devices,
            "threads": args.threads,
            "workers": args.workers,
            "on": output.cluster(args),
        },
        watcher=progress(),
        tell_run=told,
        tell=output.note,
    )
    if args.format == "json":
        output.print_json({**vars(found), "split": "validation"})
    else:
        _print(found)
    return 0


def _print(found: Any) -> None:
    best, target, test = found.best[0], found.target, found.test
    output.say(f"Use {best.policy}: {_claim(best)}")
    for name, row in found.defaults.items():
        output.say(f"{name}, {row.policy}: {_claim(row)}{_ratio(best, row)}")
    print_ranking(
        f"{found.task}: the best of {len(found.tried)} policies with fresh seeds ({found.seeds[0]} on)",
        [*found.best, *found.defaults.values()],
        target,
    )
    if output.view.verbose:
        print_ranking(f"searched with one seed: {len(found.tried)} policies, the best 10", found.tried[:10], target)
        output.say(
            f"peak LRs searched: {found.k0[0]:g} to {found.k0[1]:g} (range test: LRs from {test.low:.3g} to "
            f"{test.high:.3g} train)"
            + (f"; begun with the best of: {found.similar}" if found.similar else "; no similar task in the database")
        )
    highest = max(row.accuracy for row in found.tried if row.accuracy is not None)
    for row in found.tried:
        if row.diverged or (row.accuracy is not None and row.accuracy < highest - WORST / 100):
            reason = found.reasons.get(row.policy) or f"validation accuracy {output.percent(row.accuracy)} %"
            output.say_more(f"avoid {row.policy}: {reason}")
    if pruned := [row.policy for row in found.tried if row.stopped and not row.n]:
        output.say_more(f"stopped early: {len(pruned)} policies, such as {', '.join(pruned[:3])}")
    output.say_next(f"give {best.policy} to your training loop (docs/policies.md), or to policies: of a configuration")


def _claim(row: Any) -> str:
    if row.interval is None:
        return f"{row.n} complete, {row.diverged} diverged"
    low, high = row.interval
    return (
        f"validation accuracy {output.percent(row.accuracy)} ± {output.percent(row.sd)} % (mean ± sd of {row.n} seeds, "
        f"95 % interval of the mean {output.percent(low)} to {output.percent(high)}; n = {row.rows:,} rows)"
    )


def _ratio(best: Any, row: Any) -> str:
    """Steps to the target against the recommended policy's."""
    if best.steps is None or best.reached < best.asked:
        return ""
    if row.reached < row.asked or row.steps is None:
        return f"; reaches the target with {row.reached} of {row.asked} seeds, the recommended one with all"
    return f"; {row.steps / best.steps:.2f} times the recommended policy's steps to the target"
