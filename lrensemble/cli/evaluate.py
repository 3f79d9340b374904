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
        ["<team", "members", "accuracy %", "[interval]", "top-5 %", "NLL", "Brier", "ECE", "adaptive", "promised %"],
        [
            [
                score.name,
                str(score.members),
                output.percent(score.accuracy),
                f"[{output.percent(score.accuracy_interval[0])}, {output.percent(score.accuracy_interval[1])}]",
                output.percent(score.top5_accuracy),
                *(output.number(value) for value in (score.nll, score.brier, score.ece, score.adaptive_ece)),
                output.percent(score.validation.get("accuracy")),
            ]
            for score in result.scores
        ],
        f"The first row is the best single member {result.best_single}, {best_policy}: chosen by validation accuracy. "
        "adaptive: ECE with bins of equal mass. promised: accuracy on validation.",
    )
    output.print_table(
        "What a team gains over the baselines, on the same test rows",
        ["<team", "<over", "of", "its %", "points", "p", "Holm's p", "NLL saved"],
        _comparisons(result),
        "of: members of the baseline. random: mean and standard deviation over random teams. p: McNemar's test "
        "(mid-p); Holm's p: adjusted for the number of teams.",
    )
    output.print_table(
        "Members of the teams alone, and confidence",
        ["<team", "mean %", "best %", "oracle %", "gain over mean", "over best", "disagree %", "AC", "CV", "CVAC"],
        [
            [
                score.name,
                output.percent(score.mean_member_accuracy),
                output.percent(score.best_member_accuracy),
                output.percent(score.oracle_accuracy),
                f"{score.gain_over_mean_member:+.2f}",
                f"{score.gain_over_best_member:+.2f}",
                output.percent(score.disagreement),
                *(output.number(value) for value in (score.ac, score.cv, score.cvac)),
            ]
            for score in result.scores
        ],
        "best: on these rows, known in hindsight only. oracle: at least one member is right. AC, CV, CVAC: confidence "
        "in what is right, its deviation, and that of its means over classes.",
    )
    if result.against("seeds-only"):
        print(result.control_note)
    for name, reason in result.left_out.items():
        print(f"left out: {name}: {reason}")
    for name, text in sorted(result.verdicts.items()):
        print(f"{name}: {text}")
    if result.caution:
        print(f"Note: {result.caution}.")


def _comparisons(result: Evaluation) -> list[list[str]]:
    rows = []
    for score in result.scores:
        name = score.name
        for row in [row for row in result.comparisons if row.name == score.name]:
            sd = "" if row.baseline_accuracy_sd is None else f" ± {output.percent(row.baseline_accuracy_sd)}"
            p, p_holm = (_p_value(value) for value in (row.accuracy_gain.p_value, row.p_holm))
            gains = (_gain(row.accuracy_gain, 2), p, p_holm, _gain(row.nll_gain, 4))
            percent = output.percent(row.baseline_accuracy) + sd
            rows.append([name, row.baseline, str(row.baseline_members), percent, *gains])
            name = ""  # once a team
    return rows


def _p_value(p: float | None) -> str:
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def _gain(gain: Gain, digits: int) -> str:
    value, low, high = (
        f"{round(x, digits) + 0.0:+.{digits}f}" for x in (gain.value, gain.low, gain.high)
    )  # no "-0.00"
    return f"{value} [{low}, {high}]"
