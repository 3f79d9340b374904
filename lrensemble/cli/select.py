"""Select teams from the members' validation predictions and write them to POOL/teams.

Selectors: best-single, all, top-k, random, greedy, brute-force (default: all of them). The test split is not opened.
"""

from __future__ import annotations

import argparse

from lrensemble.cli import output

HELP = "select teams on the validation split"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("--selector", metavar="NAME", nargs="+", action="extend", help="one or more, also as a,b,c")
    parser.add_argument("--size", metavar="S", type=int, help="members in the team (greedy: at most)")
    parser.add_argument("--objective", choices=["nll", "accuracy"], default="nll", help="default: nll")
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.pool import Pool
    from lrensemble.pool.select import select_teams

    pool = Pool.open(args.pool)
    names = [name for word in args.selector for name in word.split(",") if name] if args.selector else None
    with output.working("selecting teams"):
        teams = select_teams(pool, names, size=args.size, objective=args.objective)
    if names is None and "brute-force" not in {team.selector for team in teams}:
        output.note("brute-force is left out, it would take long (--selector brute-force --size 3 tries fewer teams)")
    if args.format == "json":
        output.print_json(
            {
                "pool": str(pool.path),
                "split": "val",
                "teams": [team.model_dump(mode="json") for team in teams],
            }
        )
        return 0
    n = pool.task.rows["val"]
    members = {member.id: member.record for member in pool.complete}
    output.print_table(
        f"{pool.path}: teams from {len(members)} members, selected for {args.objective} on validation (n = {n:,})",
        ["<team", "members", "accuracy %", "± se", "NLL", "Brier", "ECE", "teams tried"],
        [
            [
                team.name,
                str(len(team.members)),
                output.percent(team.validation["accuracy"]),
                output.standard_error(team.validation["accuracy"], n),
                *(output.number(team.validation[key]) for key in ("nll", "brier", "ece")),
                f"{team.teams_tried:,}",
            ]
            for team in teams
        ],
        "These are promises: the rows that chose a team flatter it, the more teams were tried the more.",
    )
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
    print(f"Next: lrensemble evaluate {pool.path}")
    return 0
