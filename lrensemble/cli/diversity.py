"""Measure how different the members of a pool are, on its validation split.

  lrensemble diversity POOL                       all metrics, the best teams
  lrensemble diversity POOL --metric QS --pairs   the matrix of pairs
  lrensemble diversity POOL -o diversity.png      heatmap of pairs, all teams

With up to 18 members every team is scored, of more a random sample. Ctrl-C shows what was found until then.
Of more than 64 members --best 64 takes the best.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from lrensemble.cli import output
from lrensemble.cli.options import add_old_name

HELP = "how different the members are: metrics, pairs, all teams"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("--metric", default="BD", help="CK, QS, BD, FK, KW, GD, rho, DF, E or CF (default: BD)")
    parser.add_argument("--pairs", action="store_true", help="print the matrix of pairs")
    parser.add_argument(
        "--best", metavar="N", type=output.whole(2), help="only the N best members by validation accuracy"
    )
    parser.add_argument("-n", metavar="N", type=output.whole(), default=5, help="teams to list (default: 5)")
    add_old_name(parser, "--top", "-n")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="draw into FILE: .png, .svg or .html")
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.diversity import METRICS, members_of, top_teams
    from lrensemble.errors import UserError
    from lrensemble.pool import Pool
    from lrensemble.report.diversity_info import pool_diversity

    if args.output:
        from lrensemble.report.diversity_plot import draw_diversity
        from lrensemble.report.figures import check_target

        check_target(args.output)
    with output.working("scoring teams"):
        pool = Pool.open(args.pool)
        info = pool_diversity(pool, args.metric, best=args.best)
    if args.pairs and info.pairs is None:
        raise UserError(f"--pairs: {info.metric} is defined on teams, not on pairs; use CK, QS, BD, rho or DF")
    if args.output:
        draw_diversity(info, args.output)
        output.note(f"drawn into {args.output}")
    best = top_teams([info.teams], "accuracy", args.n)
    tops = [
        {
            "members": [info.ids[i] for i in members_of(mask)],
            "accuracy": float(best.scores["accuracy"][k]),
            info.metric: float(best.scores[info.metric][k]),
        }
        for k, mask in enumerate(best.masks)
    ]
    if args.format == "json":
        output.print_json(
            {
                "pool": str(args.pool),
                "split": "val",
                "rows": info.rows,
                "metric": info.metric,
                "members": [
                    {"id": i, "policy": label, "accuracy": float(accuracy)}
                    for i, label, accuracy in zip(info.ids, info.labels, info.accuracies, strict=True)
                ],
                "pairs": None if info.pairs is None else info.pairs.tolist(),
                "teams": info.named,
                "scored": len(info.teams.masks),
                "all": info.total,
                "interrupted": info.interrupted,
                "correlation": info.correlation,
                "best": tops,
                "left_out": pool.left_out,
            }
        )
        return 0
    everyone = next(iter(info.named.values()))
    output.say(
        f"{args.pool}: {METRICS[info.metric].title} of all {everyone['members']} members "
        f"{_cell(everyone[info.metric])} on validation (n = {info.rows:,}); accuracy of their average "
        f"{output.percent(everyone['accuracy'])} %"
    )
    order = [info.metric, *(metric for metric in METRICS if metric != info.metric)]
    arrow = {True: "↑", False: "↓"}  # the way to more diversity
    output.print_table(
        "Diversity of all members and of the saved teams, arrows point to more diversity",
        [
            "<team",
            "members",
            "accuracy %",
            *(f"{METRICS[m].name} {arrow[METRICS[m].higher_is_diverse]}" for m in order),
        ],
        [
            [
                name,
                str(values["members"]),
                output.percent(values["accuracy"]),
                *(_cell(values[metric]) for metric in order),
            ]
            for name, values in info.named.items()
        ],
        "Teams with equal weights. A dash: undefined (one member, no errors).",
    )
    if args.pairs and info.pairs is not None:
        _print_pairs(info, METRICS[info.metric].title)
    _print_best(info, tops)
    return 0


def _print_pairs(info: Any, title: str) -> None:
    numbers = [str(i + 1) for i in range(len(info.ids))]
    output.print_table(
        f"{title} of pairs",
        ["#", "<member", "<policy", *numbers],
        [
            [numbers[i], info.ids[i], info.labels[i], *("" if i == j else _cell(v) for j, v in enumerate(row))]
            for i, row in enumerate(info.pairs)
        ],
        "Best validation accuracy first.",
    )


def _print_best(info: Any, tops: list[dict[str, Any]]) -> None:
    scored = len(info.teams.masks)
    what = f"a random sample of {scored:,} of all" if info.is_sample else "all"
    if info.interrupted:
        what = f"stopped after {scored:,} of all"
    output.print_table(
        f"Best of {what} {info.total:,} teams of two or more by soft-vote accuracy",
        ["accuracy %", "± se", info.metric, "members", "<who"],
        [
            [
                output.percent(team["accuracy"]),
                output.standard_error(team["accuracy"], info.rows),
                _cell(team[info.metric]),
                str(len(team["members"])),
                " ".join(team["members"]),
            ]
            for team in tops
        ],
        "The rows that chose these teams flatter them: lrensemble select and evaluate tell what holds on test.",
    )
    if info.correlation:
        pairs = ", ".join(f"{size}: {value:+.2f}" for size, value in info.correlation.items())
        output.say_more(f"Rank correlation of accuracy with diversity ({info.metric}) among teams of one size: {pairs}")


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
