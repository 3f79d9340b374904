"""Does a policy reach a target validation accuracy within a budget? Exit code 0 says yes, 1 says no.

Trains until the target is reached, out of reach, or the budget is spent. The runs are members of the pool: stopping
and repeating the command goes on, and what was asked before is answered at once. CONFIG says what is trained: a YAML
file whose policies, seeds and grid do not count, or the folder of a pool that `lrensemble train` made.

  lrensemble verify "COS(k0=0.1, l=100%)" digits.yaml --target 0.95 --budget 20e
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lrensemble.cli import output
from lrensemble.cli.options import add_devices

if TYPE_CHECKING:
    from lrensemble.recommend.answer import Attempt, SeedResult, Verification

HELP = "does a policy reach a target within a budget"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", metavar="POLICY", help='for example "COS(k0=0.1, l=100%%)"')
    parser.add_argument("config", metavar="CONFIG", type=Path, help="YAML file, or folder of a pool")
    output.add_overrides(parser)
    parser.add_argument(
        "--target", metavar="ACCURACY", type=float, required=True, help="validation accuracy, for example 0.91"
    )
    parser.add_argument(
        "--budget", metavar="LENGTH", help="epochs (20e) or steps (2000) of a run (default: the configuration's epochs)"
    )
    parser.add_argument(
        "--seeds", metavar="N", type=output.whole(1, 10_000), default=1, help="runs; yes = more than half reach it (1)"
    )
    parser.add_argument(
        "--try",
        "--adapt",
        dest="tries",
        metavar="N",
        type=output.whole(0, 1000),
        default=0,
        help="on no, try N changed policies (0)",
    )
    parser.add_argument(
        "--to-the-end", action="store_true", help="give up no run before its budget is spent, however hopeless"
    )
    parser.add_argument(
        "--pool", metavar="DIR", type=Path, help="where runs go (default: POOL, or checkpoints/<name>-verify)"
    )
    output.add_workers(parser)
    add_devices(parser)
    output.add_trust(parser)
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.cli.progress import progress
    from lrensemble.recommend.verify import verify
    from lrensemble.training import load_config

    is_pool = args.config.is_dir()
    answer = verify(
        # A pool may be a stranger's: nothing is fetched for it, and nothing compiled, unless it is asked for here.
        load_config(args.config / "config.json", ["data.download=false", "engine={}", *args.overrides])
        if is_pool
        else load_config(args.config, args.overrides),
        args.policy,
        args.target,
        budget=args.budget,
        seeds=args.seeds,
        tries=args.tries,
        give_up=not args.to_the_end,
        pool=args.pool or (args.config if is_pool else None),
        trust=args.trust or not is_pool,
        workers=args.workers,
        threads=args.threads,
        devices=args.devices,
        on=output.cluster(args),
        watcher=progress(),
    )
    if args.format == "json":
        output.print_json(answer.to_dict())
    else:
        _print(answer)
    return 0 if answer.yes else 1


def _print(answer: Verification) -> None:
    for warning in answer.warnings:
        output.note(f"warning: {warning}")
    output.say(_verdict(answer))
    for change in answer.proposals:
        output.say(f"{'next' if answer.attempts[1:] else 'try'}: {change.policy}  ({change.why})")
    steps = answer.epochs * answer.steps_per_epoch
    output.print_rows(
        f"{answer.pool}: validation accuracy {100 * answer.target:g} % within {answer.epochs} epochs ({steps:,} steps)",
        [
            {
                "<policy": attempt.policy,
                "<why": attempt.why,
                "reached it": f"{round(attempt.share * len(attempt.runs))} of {len(attempt.runs)}",
                "median step": _median(attempt, "step"),
                "seconds": _median(attempt, "seconds"),
                "best %": _best(attempt)[0],
                "± se": _best(attempt)[1],
                "<runs": ", ".join(f"{outcome.member} {_end(outcome, answer.epochs)}" for outcome in attempt.runs),
            }
            for attempt in answer.attempts
        ],
        f"Validation split, n = {answer.rows:,}; best % up to the end or the target, ± its binomial standard error. "
        "The first epoch above a target is helped by noise of that size.",
    )
    if any(run.given_up for attempt in answer.attempts for run in attempt.runs):
        output.say(_how_sure(answer))


def _median(attempt: Attempt, key: str) -> str:
    value = attempt.median(key)
    if value is None:
        return "-"
    return f"{value:,.0f}" if key == "step" else f"{value:.1f}"


def _best(attempt: Attempt) -> tuple[str, str]:
    best = max(attempt.runs, key=lambda run: run.best)
    return output.percent(best.best), f"{100 * best.se:.2f}"


def _end(outcome: SeedResult, epochs: int) -> str:
    if outcome.reached:
        end = f"epoch {outcome.epochs}"
    elif outcome.status == "diverged":
        end = f"diverged in epoch {outcome.epochs}"
    else:
        end = f"given up after {outcome.epochs} of {epochs}" if outcome.given_up else f"not in {epochs}"
    return f"{end} (known)" if outcome.known else end


def _how_sure(answer: Verification) -> str:
    """How often the rule that gave runs up is wrong: where that was measured."""
    from lrensemble.recommend.curves import MEASURED

    text = "A run that was given up is a forecast, --to-the-end trains it on. Of runs that reach a target it wrongly "
    text += f"gives up: {MEASURED}"
    if (test := answer.backtest) is None or not test.reached:
        return f"{text}. This pool has no finished run of this budget that reached this target, to measure it here."
    return f"{text}; in this pool, this target and budget: {test.wrong} of {test.reached}."


def _verdict(answer: Verification) -> str:
    last = answer.attempts[-1]
    if not last.yes:
        forecast = any(run.given_up for run in last.runs)
        return f"no: {answer.attempts[0].policy} does not reach it" + (" (a forecast)" if forecast else "")
    changed = "" if last is answer.attempts[0] else f"no, but {last.policy} does: "
    what = changed or f"yes: {last.policy}, "
    return f"{what}step {_median(last, 'step')}, {_median(last, 'seconds')} s of training"
