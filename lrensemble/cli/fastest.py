"""Which policy trains fastest to the accuracy of a baseline, and with which budget?

The baseline is CONFIG's first policy. Constant LRs, families of policies, their settings and shorter budgets are tried
with one seed; the best of them and the baseline with several; and the fastest that is as accurate is trained again with
fresh seeds before it is recommended. All runs are members of the pool: stop it at any time, the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrensemble.cli import output
from lrensemble.cli.options import add_devices

if TYPE_CHECKING:
    from lrensemble.pool.fastest import Fastest
    from lrensemble.training import Config

HELP = "the policy that trains fastest to a baseline's accuracy"
COMPARED = {
    "full baseline": "the baseline's whole budget over its time to the same accuracy (the papers' kind of ratio)",
    "same target": "time until the mean of the seeds is at the target, the baseline's over its own",
    "without decay": "against the baseline without its decay",
    "best constant": "against the best constant LR",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file; its epochs are the baseline's budget")
    output.add_overrides(parser)
    parser.add_argument("--baseline", metavar="POLICY", help="policy to beat")
    parser.add_argument("--lrs", metavar="LR", type=output.real(0, 1e6), nargs="+", help="constant LRs to try first")
    parser.add_argument(
        "--seeds", metavar="N", type=output.whole(2, 1000), default=3, help="of the decision, and fresh ones (3)"
    )
    parser.add_argument(
        "--finalists", metavar="N", type=output.whole(1, 100), default=3, help="tried with all seeds (default: 3)"
    )
    parser.add_argument(
        "--pool", metavar="DIR", type=Path, help="where members go (default: checkpoints/<name>-fastest)"
    )
    output.add_workers(parser, threads=1)
    add_devices(parser)
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.training import load_config

    config = load_config(args.config, args.overrides)
    return find(args, config, args.baseline or config.specs()[0].policy, args.lrs)


def find(args: argparse.Namespace, config: Config, baseline: str, lrs: Sequence[float] | None) -> int:
    """Search and print."""
    from lrensemble.cli.progress import progress
    from lrensemble.recommend.fastest import find_fastest
    from lrensemble.training import make_plan

    # What is cut short is no member for teams: it has a pool of its own.
    plan = make_plan(config, args.pool or Path("checkpoints") / f"{config.name}-fastest")
    for note in plan.notes:
        output.note(note)
    found = find_fastest(
        plan,
        baseline=baseline,
        lrs=lrs,
        seeds=args.seeds,
        finalists=args.finalists,
        tell=output.note,
        workers=args.workers,
        threads=args.threads,
        on=output.cluster(args),
        devices=args.devices,
        watcher=progress(),
    )
    if args.format == "json":
        output.print_json({**found.to_dict(), "split": "validation", "pool": str(plan.pool)})
    else:
        _print(found, str(plan.pool))
    return 0


def _print(found: Fastest, pool: str) -> None:
    output.say(_answer(found))
    output.print_rows(
        f"{pool}: {len(found.seeds)} seeds each, validation (n = {found.val_rows:,})",
        [
            {
                "<policy": row.policy,
                "<": row.why,
                "epochs": str(row.epochs),
                "final %": output.percent(row.final),
                "as accurate after": f"{row.epoch} epochs" if row.epoch else "never",
                "seconds": output.number(row.seconds, 1),
                "points": "-" if row.difference is None else f"{100 * row.difference:+.2f}",
                "95 % bound": "-" if row.bound is None else f"{100 * row.bound:+.2f}",
                "p": output.number(row.p, 3) if row.why != "baseline" else "-",
                "s to target": output.number(row.to_target, 1),
            }
            for row in found.rows
        ],
        f"Target: {output.percent(found.target)} %, the baseline's mean over its last evaluations. As accurate: of "
        "every seed all of the last 5 evaluations at most 0.5 points below it, and the one-sided bound of the mean "
        f"difference above that, p at Holm's level for so many. "
        f"Seconds: {'CPU seconds' if found.clock == 'cpu_seconds' else 'of training'}, medians.",
    )
    for name, ratio in found.speed_ups.items():
        shown = "not known: that never gets there" if ratio is None else f"{ratio:.2f} times"
        output.say(f"{shown}: {COMPARED[name]}")
    if (c := found.confirmation) and found.winner is not None:
        output.say(
            f"{'confirmed' if c.saved else 'not confirmed'} with {len(found.fresh)} fresh seeds, after epoch {c.epoch} "
            f"of {found.rows[found.winner].epochs}: "
            + (
                f"{100 * c.difference:+.2f} points, one-sided 95 % bound {100 * c.bound:+.2f} (validation)"
                if c.difference is not None and c.bound is not None
                else "a run with a fresh seed ended early"
            )
            + ("" if c.saved or not c.holds else "; it is no faster with them")
        )
        if c.test:
            output.say(
                f"test (read once, n = {c.test['rows']:,.0f}): {output.percent(c.test['accuracy'])} %, the baseline "
                f"{output.percent(c.test['baseline'])} %, bound of the difference {100 * c.test['bound']:+.2f} points"
            )
    repaid = found.repaid_after
    output.say(
        f"search: {found.search_seconds:,.0f} s ({found.tried} runs with one seed, the rest repetitions)"
        + (f"; repaid after {repaid:,} trainings" if repaid else "; not repaid")
    )


def _answer(found: Fastest) -> str:
    row = found.recommended
    if row is found.rows[0]:
        what = "none is confirmed" if found.winner is not None else "nothing that was tried is as accurate and faster"
        return f"keep the baseline {found.baseline}, {found.epochs} epochs: {what}"
    epoch = found.confirmation.epoch if found.confirmation else row.epoch
    stop = "" if epoch == row.epochs else f", stopped after epoch {epoch}"
    return f"{row.policy}, {row.epochs} epochs{stop}: {found.speed_ups['full baseline'] or 1:.2f} times faster"
