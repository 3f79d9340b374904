"""Train a configuration, propose what to train next, train that, and so on: rounds within a limit.

Stopping it at any time and running the same command again goes on where it was; several processes with one pool on a
shared folder divide the work. Overrides change the configuration, as in lrensemble train.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lrensemble.cli import output
from lrensemble.errors import UserError

if TYPE_CHECKING:
    from lrensemble.recommend.rounds import Result, Round

HELP = "rounds of train, select, propose"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 1e8  # three years of seconds
TEAMS = ("best-single", "all", "greedy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file, for example configs/digits.yaml")
    output.add_overrides(parser)
    parser.add_argument("--pool", metavar="DIR", type=Path, help="folder of the pool (default: checkpoints/<name>)")
    parser.add_argument(
        "--rounds", metavar="N", type=output.whole(), default=5, help="after the configuration (default: 5)"
    )
    parser.add_argument(
        "--n", metavar="N", type=output.whole(1, 10_000), default=4, help="proposals of a round (default: 4)"
    )
    parser.add_argument(
        "--members", metavar="N", type=output.whole(), help="stop at so many runs, the configuration's included"
    )
    parser.add_argument("--time", metavar="T", help="stop after 90s, 30m, 2h, when a member is done")
    parser.add_argument(
        "--seed", metavar="N", type=output.whole(0, 2**63 - 1), default=0, help="of the proposals (default: 0)"
    )
    output.add_workers(parser)
    parser.add_argument("--devices", metavar="NAMES", default="auto", help="as in lrensemble train (default: auto)")
    output.add_track(parser)
    output.add_format(parser)


def parse_time(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``30m``, ``2h``, ``1d``."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)([smhd]?)", text.strip())
    if match is None or not 0 < float(match[1]) <= LONGEST:
        raise UserError(f"--time {text} is not possible: give a time such as 90s, 30m or 2h")
    return float(match[1]) * UNITS[match[2] or "s"]


def run(args: argparse.Namespace) -> int:
    from lrensemble.cli.progress import progress
    from lrensemble.pool import Pool
    from lrensemble.pool.select import select_teams
    from lrensemble.recommend.rounds import Limits, results, run_rounds
    from lrensemble.training import load_config, make_plan
    from lrensemble.training.runner import default_pool

    limits = Limits(args.rounds, args.members, parse_time(args.time) if args.time else None)
    config = load_config(args.config, args.overrides)
    plan = make_plan(config, args.pool or default_pool(config))
    for note in plan.notes:
        output.note(note)
    ended = run_rounds(
        plan,
        limits,
        per_round=args.n,
        seed=args.seed,
        watcher=progress(args.track),
        tell=_tell,
        workers=args.workers,
        threads=args.threads,
        devices=args.devices,
    )
    pool = Pool.open(plan.pool)
    teams = select_teams(pool, TEAMS)
    found = results(pool)
    if args.format == "json":
        output.print_json(
            {
                "pool": str(pool.path),
                "ended": ended,
                "split": "val",
                "rounds": found,
                "teams": teams,
            }
        )
        return 0
    rows = pool.task.rows["val"]
    first, last = found[0], found[-1]
    output.say(f"Ended after {ended}: {_joined(last, first, rows)}")
    output.print_rows(
        f"{pool.path}: the greedy team after every round, on validation (n = {rows:,})",
        [
            {
                "round": str(r.number),
                "runs": str(r.trained),
                "complete": str(r.complete),
                "in the team": str(r.team),
                "of them new": str(r.new),
                "NLL": output.number(r.nll),
                "accuracy %": output.percent(r.accuracy),
                "± se": output.percent(r.accuracy_se),
                "training s": f"{r.seconds:.1f}",
            }
            for r in found
        ],
        "These are promises: the rows that chose a team flatter it, the more members to choose from the more.",
    )
    control = f" (lrensemble train {args.config} trains the control)" if config.control else ""
    output.say_next(f"lrensemble evaluate {pool.path}{control}")
    return 0


def _joined(last: Result, first: Result, rows: int) -> str:
    """What the rounds brought."""
    joined = (
        f"{last.new} of {last.trained - first.trained} new members joined the team of {last.team}"
        if last.new
        else f"none of the {last.trained - first.trained} new members joined the team"
    )
    return f"{joined}; its NLL was {first.nll:.4f} and is {last.nll:.4f} on validation (n = {rows:,})"


def _tell(current: Round) -> None:
    """What a round will train, on stderr."""
    if current.number:
        output.note(f"round {current.number}:")
        for proposal in current.proposals:
            output.note(f"  {proposal.spec.policy} seed {proposal.spec.seed}: {proposal.explanation}")
