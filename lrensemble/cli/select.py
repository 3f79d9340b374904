"""Select teams from the members' validation predictions and write them to POOL/teams.

Selectors: best-single, all, top-k, random, greedy, brute-force (these by default), focal, hierarchical, diverse,
convex, cma-es, pareto. The test split is not opened. Ctrl-C, and --time, end a search with the best team so far.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrensemble.cli import output
from lrensemble.cli.options import add_old_name, add_time
from lrensemble.errors import UserError

if TYPE_CHECKING:
    from lrensemble.pool import Pool, Record, Team

HELP = "select teams on the validation split"
SCORES = {"nll": "NLL", "accuracy": "accuracy %", "brier": "Brier", "ece": "ECE"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("--selector", metavar="NAME", nargs="+", action="extend", help="one or more, also as a,b,c")
    parser.add_argument("--size", metavar="S", type=output.whole(), help="members in the team (greedy: at most)")
    parser.add_argument(
        "--objective",
        metavar="NAME",
        help="nll (default), accuracy (where members are labels), balanced_accuracy, macro_f1, auroc, brier, ece, or "
        "a metric of your own: a name that is registered, or package.module:function",
    )
    parser.add_argument(
        "--vote",
        metavar="VOTE",
        help="how the team votes, and what the selectors optimise: soft (default), logit, plurality (default where "
        "members are labels), majority or borda",
    )
    parser.add_argument("--temperature", action="store_true", help="scale every member by a fitted temperature first")
    parser.add_argument("--metric", metavar="M", help="for focal, hierarchical and diverse: GD, BD, EQ ...")
    parser.add_argument("--one-se", action="store_true", help="the smallest team within one standard error of the best")
    parser.add_argument(
        "--best", metavar="N", type=output.whole(), help="choose from the N members of the best validation accuracy"
    )
    add_time(parser, "for each search, then the best so far")
    add_old_name(parser, "--time-limit", "--time")
    parser.add_argument(
        "--stability",
        metavar="N",
        type=output.whole(0, 10_000),
        default=0,
        help="select N times more on half of the rows: what holds?",
    )
    parser.add_argument(
        "--cost", metavar="NAME", help="of a member, for pareto: energy, cpu_seconds, synops ... (default: FLOPs)"
    )
    parser.add_argument("--memory", metavar="SIZE", help="for predictions in memory, e.g. 500MB (default: 2GiB)")
    parser.add_argument(
        "--option", metavar="KEY=VALUE", action="append", default=[], help="of a selector, e.g. bags=10, strength=0.2"
    )
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.pool import Pool
    from lrensemble.pool.select import select_teams
    from lrensemble.pool.sizes import parse_size
    from lrensemble.selection import MEMORY

    pool = Pool.open(args.pool)
    names = [name for word in args.selector for name in word.split(",") if name] if args.selector else None
    with output.working("selecting teams") as tell, output.stopping() as stopped:

        def watch(done: str) -> bool:
            tell(f"selecting teams: {done}")
            return stopped()

        teams = select_teams(
            pool,
            names,
            size=args.size,
            objective=args.objective,
            vote=args.vote,
            temperature=args.temperature,
            one_se=args.one_se,
            time_limit=args.time,
            stability_repeats=args.stability,
            cost=args.cost,
            memory=parse_size(args.memory) if args.memory else MEMORY,
            options=_options(args),
            best=args.best,
            watch=watch,
        )
    if names is None and "brute-force" not in {team.selector for team in teams}:
        output.note("brute-force is left out: it would take long (--selector brute-force --size 3 tries fewer teams)")
    if args.format == "json":
        output.print_json(
            {
                "pool": str(pool.path),
                "split": "val",
                "chance": pool.chance("val"),
                "teams": teams,
                "left_out": pool.left_out,
            }
        )
        return 0
    members = {member.id: member.record for member in pool.complete}
    objective = args.objective or ("accuracy" if any(record.is_labels for record in members.values()) else "nll")
    if hard := sum(record.is_labels for record in members.values()):
        output.note(
            f"{hard} of {len(members)} members give labels alone: selected for {objective}, {teams[0].vote} vote; "
            "labels have no NLL, Brier score or ECE"
        )
    _print_teams(pool, teams, objective, len(members))
    if output.view.verbose:
        _print_members(teams, members)
    if args.stability:
        _print_stability(teams, objective)
    for team in teams:
        if team.stopped:
            output.say(f"{team.name}: {team.stopped}")
    output.say_command("lrensemble", "evaluate", pool.path)
    return 0


def _print_teams(pool: Pool, teams: Sequence[Team], objective: str, members: int) -> None:
    """The team to use, and all of them by what they were selected for."""
    from lrensemble.pool.team import best_team, team_order

    n, best = pool.task.rows["val"], best_team(teams)
    keys = [objective, *(key for key in SCORES if key != objective)]
    heads = {key: SCORES.get(key, key.rpartition(":")[2]) for key in keys}
    if best is None:
        output.say("No team to use: random teams are a control, which the others are compared with")
    else:
        output.say(_chosen(best, objective, heads[objective], members, n))
    rows = []
    for team in sorted(teams, key=team_order):
        row = {"<team": team.name, "members": str(len(team.members))}
        for key in keys:
            row[heads[key]] = _score(key, team.validation.get(key))
            if key == "accuracy":
                row["± se"] = output.standard_error(team.validation[key], n)
        rows.append(row | {"teams tried": f"{team.teams_tried:,}"})
    output.print_rows(
        f"{pool.path}: teams by validation {objective}, best first (chance {output.percent(pool.chance('val'))} %)",
        rows,
        "These are promises: the rows that chose a team flatter it, the more teams were tried the more.",
    )


def _chosen(team: Team, objective: str, head: str, members: int, n: int) -> str:
    value = f"{head.removesuffix(' %')} {_score(objective, team.validation.get(objective))}"
    value += f"{' %' if objective == 'accuracy' else ''} on validation (n = {n:,})"
    if len(team.members) > 1:
        return f"Team {team.name}: {len(team.members)} of {members} members, {value}"
    return f"No team of two or more: {team.name} is member {', '.join(team.members)}, {value}"


def _score(key: str, value: float | None) -> str:
    return output.percent(value) if key == "accuracy" else output.number(value)


def _print_members(teams: Sequence[Team], members: Mapping[str, Record]) -> None:
    output.print_table(
        "Members and weights",
        ["<team", "weight", "<member", "<policy", "seed", "<model"],
        [
            [
                team.name,
                f"{weight:.3f}",
                i,
                members[i].spec.label,
                str(members[i].spec.seed),
                str(members[i].spec.model),
            ]
            for team in teams
            if len(team.members) < len(members)
            for i, weight in sorted(team.members.items(), key=lambda item: -item[1])
        ],
        "Teams of all members are left out.",
    )


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """``--metric M`` and ``--option KEY=VALUE`` as parameters of selectors."""
    options: dict[str, Any] = {"metric": args.metric} if args.metric else {}
    for text in args.option:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--option {text} is not KEY=VALUE, for example bags=10")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            options[key] = value
    return options


def _print_stability(teams: Sequence[Team], objective: str) -> None:
    """What selecting again on half of the rows showed."""
    unit, factor = {"accuracy": ("points", 100), "nll": ("nats", 1)}.get(objective, (f"{objective} (+: better)", 1))
    rows = []
    for team in teams:
        if found := team.stability:
            often = sum(share >= 0.8 for share in found.frequency.values())
            numbers = (found.promised_gain, found.gain, found.optimism)
            rows.append(
                [
                    team.name,
                    *(f"{factor * x:+.4f}" for x in numbers),
                    output.percent(found.overlap),
                    f"{often} of {len(found.frequency)}",
                ]
            )
    repeats = teams[0].stability.repeats if teams and teams[0].stability else 0
    output.print_table(
        f"Selected again on {repeats} random halves of the validation rows",
        ["<team", "promised gain", "gain on the other half", "optimism", "overlap %", "chosen in 80 % or more"],
        rows,
        f"In {unit}; the gains are over the best single member of the same half. Optimism: how much better the team "
        "looks on the rows that chose it.",
    )
