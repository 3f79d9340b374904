"""Train a fixed number of runs, or for a fixed time, and end with a team: no learning-rate policies are needed.

  lrensemble run CONFIG --members 12
  lrensemble run CONFIG --time 2h --workers 4

First cosines with peaks a decade apart, or the policies in CONFIG, where it has some (policies=[] here: none). Then
the half decades around the best cosine, three more seeds of the best of all these, and by turns what is expected to
help the team most and random policies. As many runs are chosen at a time as there are workers. The test split is not
read.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrensemble.cli import output
from lrensemble.cli.options import add_devices, add_time
from lrensemble.errors import UserError

if TYPE_CHECKING:
    from lrensemble.pool import Member, Pool, Team
    from lrensemble.recommend.rounds import Round

HELP = "the best team that a number of trainings, or a time, can buy"
MOST_RUNS = 100_000
TEAMS = ("best-single", "greedy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file, with policies or without")
    parser.add_argument("--members", metavar="B", type=output.whole(), help="train so many runs, 3 or more")
    add_time(parser, "train for this time, until a member is done")
    parser.add_argument("--pool", metavar="DIR", type=Path, help="folder of the pool (default: checkpoints/<name>)")
    parser.add_argument(
        "--seed", metavar="N", type=output.whole(0, 2**63 - 1), default=0, help="of what is chosen (default: 0)"
    )
    add_devices(parser)
    output.add_workers(parser)
    output.add_track(parser)
    output.add_format(parser)
    output.add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.cli.progress import progress
    from lrensemble.pool import Pool
    from lrensemble.pool.select import select_teams
    from lrensemble.recommend.budget import FEWEST, first_runs, ladder
    from lrensemble.recommend.rounds import Limits, members_of, read_rounds, run_rounds
    from lrensemble.training import load_config, make_plan
    from lrensemble.training.executor import choose_site
    from lrensemble.training.runner import default_pool

    on = output.cluster(args)
    if args.members is None and args.time is None:
        raise UserError(
            "how much may be spent? give --members B (runs to train), --time 2h, or both; rounds of proposals "
            "without an end are lrensemble propose CONFIG --train"
        )
    if args.members is not None and args.members < FEWEST:
        raise UserError(
            f"--members {args.members}: a team is chosen from {FEWEST} runs or more; give --members {FEWEST} at "
            "least, or lrensemble train for single runs"
        )
    config = load_config(args.config, args.overrides, policies=ladder)
    plan = make_plan(config, args.pool or default_pool(config))
    for note in plan.notes:
        output.note(note)
    site = choose_site(
        MOST_RUNS, on=on, devices=args.devices, workers=args.workers, per_device=None, threads=args.threads
    )
    is_ladder = config.policies == ladder(config.optimizer.name)
    if args.members is not None and not is_ladder and args.members <= len(plan.runs):
        raise UserError(
            f"--members {args.members}: the configuration's own policies are {len(plan.runs)} runs, which come first: "
            "give more, or policies=[] to begin with decades"
        )
    ended = run_rounds(
        plan,
        Limits(MOST_RUNS, args.members, args.time),
        per_round=len(site.slots),
        seed=args.seed,
        ladder=first_runs(plan.specs) if is_ladder else (),
        watcher=progress(args.track),
        tell=_tell,
        workers=args.workers,
        threads=args.threads,
        on=on,
        devices=args.devices,
    )
    pool = Pool.open(plan.pool)
    runs = [member for member in members_of(pool, read_rounds(pool)) if member.status != "planned"][: args.members]
    complete = [member for member in runs if member.status == "complete"]
    if len(runs) < FEWEST:
        raise UserError(
            f"{ended} after {len(runs)} run{'s' * (len(runs) != 1)}: a team is chosen from {FEWEST} or more; give more "
            f"time than {FEWEST} runs take{_longest(complete)}; what is trained is kept, the same command goes on"
        )
    teams = select_teams(pool, TEAMS)
    if args.format == "json":
        counts = {"runs": len(runs), "complete": len(complete), "not_counted": len(_others(pool, runs))}
        output.print_json(
            {
                "pool": str(pool.path),
                "ended": ended,
                "split": "val",
                **counts,
                "seconds": _seconds(runs),
                "teams": teams,
            }
        )
        return 0
    _print(pool, ended, runs, {team.name: team for team in teams})
    return 0


def _print(pool: Pool, ended: str, runs: list[Member], teams: dict[str, Team]) -> None:
    n = pool.task.rows["val"]
    team, single = teams["greedy"], teams["best-single"]
    gains = len(team.members) > 1 and (team.validation["nll"] or 0) < (single.validation["nll"] or 0)
    best = team if gains else single
    [first, *_] = best.members
    policy = pool.find(first).record.spec.label
    what = f"team greedy: {len(team.members)} of {len(runs)} runs" if gains else f"the best single run, {policy}"
    output.say(
        f"Use {what}, NLL {output.number(best.validation['nll'])}, accuracy "
        f"{output.percent(best.validation['accuracy'])} % on validation (n = {n:,})"
    )
    if not gains:
        output.say("No team of these runs is better on validation than the best of them")
    output.print_rows(
        f"{pool.path}: {len(runs)} trainings ({ended}), {_seconds(runs):,.0f} s of training",
        [
            {
                "<policy": member.record.spec.label,
                "seed": str(member.record.spec.seed),
                "weight": output.number(team.members.get(member.id), 3),
                "NLL": output.number(member.record.val.get("nll")),
                "accuracy %": output.percent(member.record.val.get("accuracy")),
                "<status": member.status,
            }
            for member in runs
        ],
        "On validation, and so promises: the rows that chose a team flatter it.",
    )
    if others := _others(pool, runs):
        joined = sum(member.id in team.members for member in others)
        output.say(
            f"{len(others)} other members of the pool are not counted, and cost nothing here; {joined} of them are in "
            "the team"
        )
    output.say_command("lrensemble", "evaluate", pool.path)


def _others(pool: Pool, runs: list[Member]) -> list[Member]:
    mine = {member.id for member in runs}
    return [member for member in pool.usable("val") if not mine & {member.id, member.record.parent}]


def _seconds(runs: list[Member]) -> float:
    return float(sum(member.record.costs.get("seconds", 0.0) for member in runs))


def _longest(complete: list[Any]) -> str:
    seconds = [member.record.costs["seconds"] for member in complete if "seconds" in member.record.costs]
    return f" ({max(seconds):.1f} s each here)" if seconds else ""


def _tell(current: Round) -> None:
    """What will be trained next, on stderr."""
    for proposal in current.proposals:
        output.note(f"{proposal.spec.policy} seed {proposal.spec.seed}: {proposal.explanation}")
