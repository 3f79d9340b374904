"""Rounds of train, select, propose, and how they are shown: ``lrensemble propose --train``."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from lrensemble.cli import output

if TYPE_CHECKING:
    from lrensemble.recommend.rounds import Result, Round

TEAMS = ("best-single", "all", "greedy")


def run(args: argparse.Namespace) -> int:
    from lrensemble.cli.progress import progress
    from lrensemble.pool import Pool
    from lrensemble.pool.select import select_teams
    from lrensemble.recommend.rounds import Limits, results, run_rounds
    from lrensemble.training import load_config, make_plan
    from lrensemble.training.runner import default_pool

    limits = Limits(args.rounds or 5, args.members, args.time)
    config = load_config(args.pool, args.overrides)
    plan = make_plan(config, args.folder or default_pool(config))
    for note in plan.notes:
        output.note(note)
    ended = run_rounds(
        plan,
        limits,
        per_round=args.n or 4,
        seed=args.seed,
        watcher=progress(args.track),
        tell=_tell,
        workers=args.workers,
        threads=args.threads,
        on=output.cluster(args),
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
    control = f" (lrensemble train {shlex.quote(str(args.pool))} trains the control)" if config.control else ""
    output.say_command("lrensemble", "evaluate", pool.path, then=control)
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
