"""Score selected teams on the test split, which nothing before this has looked at.

Beside them: the best single member (chosen on validation), the average of all members, and the same selectors on the
seeds-only control when there is one. Intervals: 95 %, paired bootstrap over the test rows.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from lrensemble.cli import output

if TYPE_CHECKING:
    from lrensemble.evaluation import Evaluation, Gain

HELP = "score teams on the test split"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("--team", metavar="NAME", nargs="+", action="extend", help="one or more (default: all teams)")
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.evaluation import evaluate
    from lrensemble.pool import Pool

    pool = Pool.open(args.pool)
    names = [name for word in args.team for name in word.split(",") if name] if args.team else None
    with output.working("evaluating teams on the test split"):
        result = evaluate(pool, names)
    if args.format == "json":
        output.print_json(result.to_dict())
    else:
        _print(result, pool.find(result.best_single).record.spec.label)
    return 0


def _print(result: Evaluation, best_policy: str) -> None:
    output.print_table(
        f"{result.pool}: test split (n = {result.rows:,}), intervals 95 %",
        [
            "<team",
            "members",
            "accuracy %",
            "[interval]",
            "points over best single",
            "NLL",
            "NLL saved",
            "Brier",
            "ECE",
            "promised %",
        ],
        [
            [
                score.name,
                str(score.members),
                output.percent(score.accuracy),
                f"[{output.percent(score.accuracy_interval[0])}, {output.percent(score.accuracy_interval[1])}]",
                _gain(score.accuracy_gain, 2) if i else "-",
                output.number(score.nll),
                _gain(score.nll_gain, 4) if i else "-",
                output.number(score.brier),
                output.number(score.ece),
                output.percent(score.validation.get("accuracy")),
            ]
            for i, score in enumerate(result.scores)
        ],
        f"The first row is the best single member {result.best_single}, {best_policy}: chosen by validation accuracy. "
        "NLL saved: over the best single, positive = better. promised: accuracy on validation.",
    )
    if result.control:
        output.print_table(
            "LR policies against seeds only: the same selector on both pools, test split",
            ["<team", "LR %", "seeds-only %", "points", "LR NLL", "seeds-only NLL", "NLL saved"],
            [
                [
                    row.name,
                    output.percent(row.accuracy),
                    output.percent(row.control_accuracy),
                    _gain(row.accuracy_gain, 2),
                    output.number(row.nll),
                    output.number(row.control_nll),
                    _gain(row.nll_gain, 4),
                ]
                for row in result.control
            ],
            result.control_note,
        )
    for name, text in sorted(result.verdicts.items()):
        print(f"{name}: {text}")


def _gain(gain: Gain, digits: int) -> str:
    value, low, high = (
        f"{round(x, digits) + 0.0:+.{digits}f}" for x in (gain.value, gain.low, gain.high)
    )  # no "-0.00"
    return f"{value} [{low}, {high}]"
