"""Score selected teams on the test split, which nothing before this has looked at.

Beside them: the best single member (chosen on validation), the average of all members, top-k and random teams of the
same size, and the same selectors on other runs: on the control when there is one, and, at equal bills, on half of the
pool with seeds of its best. Every row says what it cost, tuning included. Intervals: 95 %, over the test rows.

Several pools of one task, trained with different seeds: means over the pools. --repeats N selects again on N new
divisions of validation and test rows: that describes selectors and must not choose a team. --classes: class by class.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lrensemble.cli import output
from lrensemble.errors import UserError

if TYPE_CHECKING:
    from lrensemble.evaluation import Bill, Details, Evaluation, Gain, OverPools, Repeated, Score
    from lrensemble.pool import Pool

HELP = "score teams on the test split"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pools", metavar="POOL", nargs="+", help="folder of a pool; several: means over them")
    parser.add_argument("--team", metavar="NAME", nargs="+", action="extend", help="one or more (default: all teams)")
    parser.add_argument(
        "--repeats",
        metavar="N",
        type=output.whole(2, 10_000),
        help="select again on N divisions of the rows (one pool)",
    )
    parser.add_argument("--classes", action="store_true", help="recall, precision and confusions of every team")
    parser.add_argument(
        "--metric",
        metavar="NAME",
        nargs="+",
        action="extend",
        default=[],
        help="further ones: balanced_accuracy, macro_f1, auroc, or package.module:function of (probabilities, labels)",
    )
    output.add_trust(parser)
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.evaluation import details, evaluate
    from lrensemble.evaluation.pools import check_alike
    from lrensemble.pool import Pool

    pools = [Pool.open(path) for path in args.pools]
    names = [name for word in args.team for name in word.split(",") if name] if args.team else None
    if len(pools) > 1 and (args.repeats is not None or args.classes):
        raise UserError("--repeats and --classes are for one pool at a time")
    check_alike(pools)
    if args.repeats is not None:
        return _run_repeats(pools[0], names, args)
    with output.working("evaluating teams on the test split"):
        results = [evaluate(pool, names, metrics=args.metric, trust=args.trust) for pool in pools]
    if len(pools) > 1:
        return _run_several(results, args.format)
    found = details(pools[0], names) if args.classes else []
    if args.format == "json":
        output.print_json(results[0].to_dict() | ({"classes": found} if found else {}))
        return 0
    _print(results[0], pools[0])
    for row in found:
        _print_classes(row)
    return 0


def _run_repeats(pool: Any, names: list[str] | None, args: argparse.Namespace) -> int:
    from lrensemble.evaluation import repeat

    with output.working(f"selecting again on {args.repeats} divisions"):
        found = repeat(pool, names, args.repeats, trust=args.trust)
    rows = pool.task.rows
    chance = sum(rows[split] * pool.chance(split) for split in ("val", "test")) / (rows["val"] + rows["test"])
    if args.format == "json":
        parts = {"split": "val and test, divided anew", "chance": chance}
        output.print_json({"pool": str(pool.path), **parts, "repeats": found})
    else:
        _print_repeats(str(pool.path), found, chance)
    return 0


def _run_several(results: Sequence[Evaluation], format: str) -> int:
    from lrensemble.evaluation import over_pools

    found = over_pools(results)
    if format == "json":
        data = {"pools": [result.to_dict() for result in results], "over_pools": found}
        output.print_json({"split": "test", "chance": results[0].chance, **data})
    else:
        _print_pools(results, found)
    return 0


def _print(result: Evaluation, pool: Pool) -> None:
    """The verdict on the team to use, and all teams; with -v everything that was found."""
    from lrensemble.evaluation.verdict import NO_TEAM
    from lrensemble.pool import best_team

    best = best_team([pool.team(name) for name in pool.team_names if name in result.verdicts])
    answer, *lines = result.verdicts[best.name].split("\n") if best else [NO_TEAM]
    for line in [answer, *lines[:1]]:
        output.say(f"{line}.")
    output.print_rows(
        f"{result.pool}: teams on the test split (n = {result.rows:,}), chance {output.percent(result.chance)} %, "
        f"gains over the best single member with 95 % intervals",
        [_row(result, score, best.objective if best else "nll") for score in result.scores],
    )
    if best:
        _print_bills(result, best.name)
    if output.view.verbose:
        _print_all(result, pool.find(result.best_single).record.spec.label)
        _print_costs(result, pool)
    if result.scores[0].metrics:
        _print_metrics(result)
    for name, reason in (result.left_out | result.metrics_left_out).items():
        output.say(f"left out: {name}: {reason}")
    for line in lines[1:]:
        output.say(f"{line}.")
    if output.view.verbose:
        for name in sorted(result.verdicts):
            output.say(f"{name}: " + ". ".join(result.verdicts[name].split("\n")) + ".")
        if result.caution:
            output.say(f"Note: {result.caution}.")
    if best is None:
        output.say_command("lrensemble", "select", pool.path)
    elif answer.startswith("Worth"):
        output.say_command("lrensemble", "export", pool.path, best.name, "-o", best.name)
    else:
        output.say_command("lrensemble", "report", pool.path)


def _row(result: Evaluation, score: Score, objective: str) -> dict[str, str]:
    """A team in the table of all: the gain in what was selected for comes first."""
    row = next((row for row in result.against("best single") if row.name == score.name), None)
    nll, points = (row.nll_gain, row.accuracy_gain) if row else (None, None)
    cells = {"<NLL gain": _gain(nll, 4), "NLL": output.number(score.nll)}
    accuracy = {"<points": _gain(points, 2), "accuracy %": output.percent(score.accuracy)}
    cells = accuracy | cells if objective == "accuracy" else cells | accuracy
    return {"<team": score.name, "members": str(score.members)} | cells | _cost(score.bill)


def _cost(bill: Bill | None) -> dict[str, str]:
    """Two cells: all trainings that were needed, and their seconds one after the other."""
    return {"trainings": "-" if bill is None else f"{bill.trainings:,}", "time": "-" if bill is None else bill.time}


def _print_bills(result: Evaluation, team: str) -> None:
    """The bills beside each other: what other ways of training gave, and what each cost, tuning included."""
    from lrensemble.evaluation.results import TOGETHER

    rows = [(row.baseline, row) for row in result.comparisons if row.name == team and row.baseline in _TRAINED]
    rows += [(TOGETHER, row) for row in result.equal_bills if row.name == team]
    if len(rows) > 1:
        output.print_rows(
            f"Team {team} over other ways to train, and the bills of both",
            [
                {"<over": name}
                | _cost(row.baseline_bill)
                | {"own": _cost(row.bill)["trainings"]}  # the four fit into 80 cells with the gain
                | {"<NLL gain": _gain(row.nll_gain, 4), "<points": _gain(row.accuracy_gain, 2)}
                | {"accuracy %": output.percent(row.baseline_accuracy), "members": str(row.baseline_members)}
                for name, row in rows
            ],
        )


_TRAINED = ("best single", "seeds-only", "half and half", "default seeds")


def _print_all(result: Evaluation, best_policy: str) -> None:
    output.print_table(
        f"{result.pool}: test split (n = {result.rows:,}), chance {output.percent(result.chance)} %, intervals 95 %",
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
        ["<team", "<over", "of", "trainings", "its %", "points", "p", "Holm's p", "NLL saved"],
        _comparisons(result),
        "of: members of the baseline. trainings: all that it needed. ±: standard deviation over random teams, or over "
        "halves of the pool (half and half). p: McNemar's test "
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
        output.say(result.control_note)


def _print_costs(result: Evaluation, pool: Pool) -> None:
    from lrensemble.report.page.costs import costs_of

    best, rows, sources = pool.find(result.best_single), [], dict[str, None]()
    for score in result.scores:
        team = pool.team(score.name) if score.name in pool.team_names else None
        if team is None and score.members > 1:
            continue
        costs = costs_of(pool, team, best)
        trained = costs.team if team else costs.single
        used = {use.measure: use.team if team else use.single for use in costs.use}
        sources |= dict.fromkeys(trained.sources)
        rows.append(
            {
                "<team": score.name,
                "energy J": output.number(trained.joules, 1),
                "mg CO2e": output.number(trained.grams and 1000 * trained.grams, 2),
                **{name: "-" if value is None else f"{value:,.0f}" for name, value in used.items()},
            }
        )
    output.print_rows(
        "Energy of the training of a team's members, and what one prediction takes",
        rows,
        f"Energy from: {'; '.join(sources) or 'nothing'}. CO2e by the world's mean (lrensemble energy --country).",
    )


def _print_metrics(result: Evaluation) -> None:
    names = list(result.scores[0].metrics)
    output.print_table(
        "Metrics",
        ["<team", *(head for name in names for head in (name.rpartition(":")[2], "better than best single"))],
        [
            [
                score.name,
                *(
                    cell
                    for name in names
                    for cell in (
                        output.number(score.metrics.get(name)),
                        _gain(score.metric_gains.get(name), 4) if i else "-",
                    )
                ),
            ]
            for i, score in enumerate(result.scores)
        ],
        "better: + is better, whatever the metric's sign; interval by the standard error of a paired bootstrap.",
    )


def _comparisons(result: Evaluation) -> list[list[str]]:
    rows = []
    for score in result.scores:
        name = score.name
        for row in [row for row in result.comparisons if row.name == score.name]:
            sd = "" if row.baseline_accuracy_sd is None else f" ± {output.percent(row.baseline_accuracy_sd)}"
            p, p_holm = (_p_value(value) for value in (row.accuracy_gain.p_value, row.p_holm))
            gains = (_gain(row.accuracy_gain, 2), p, p_holm, _gain(row.nll_gain, 4))
            percent = output.percent(row.baseline_accuracy) + sd
            bill = _cost(row.baseline_bill)["trainings"]
            rows.append([name, row.baseline, str(row.baseline_members), bill, percent, *gains])
            name = ""  # once a team
    return rows


def _p_value(p: float | None) -> str:
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def _gain(gain: Gain | None, digits: int) -> str:
    return "-" if gain is None else "{} [{}, {}]".format(*gain.words(digits))


def _print_repeats(pool: str, rows: Sequence[Repeated], chance: float) -> None:
    first = rows[0]
    output.print_table(
        f"{pool}: selected again on {first.repeats} divisions of validation and test rows, {first.select_rows:,} to "
        f"select on and {first.score_rows:,} to score, chance {output.percent(chance)} %",
        [
            "<selector",
            "members",
            "accuracy %",
            "NLL",
            "over best single",
            "better in",
            "over all",
            "over top-k",
            "optimism",
        ],
        [
            [
                row.name,
                f"{row.members:.1f}",
                f"{100 * row.accuracy:.2f} ± {100 * row.accuracy_sd:.2f}",
                output.number(row.nll),
                _signed(row.gain, row.gain_sd),
                f"{100 * row.better:.0f} %",
                _signed(row.gain_over_all, row.gain_over_all_sd),
                _signed(row.gain_over_top_k, row.gain_over_top_k_sd),
                f"{row.optimism:+.2f}",
            ]
            for row in rows
        ],
        "Mean ± standard deviation over divisions of the same rows and members: a spread, no standard error. Gains and "
        "optimism (how much better it looked on the rows that chose it) in points; top-k: of the same size. Not for "
        "choosing a team: the test rows took part.",
    )


def _signed(mean: float, sd: float) -> str:
    return f"{round(mean, 2) + 0.0:+.2f} ± {sd:.2f}"


def _print_pools(results: Sequence[Evaluation], rows: Sequence[OverPools]) -> None:
    output.print_table(
        f"Means over {len(results)} pools: test split (n = {results[0].rows:,}, the same rows), chance "
        f"{output.percent(results[0].chance)} %",
        ["<team", "members", "accuracy %", "NLL"],
        [
            [
                row.name,
                f"{row.members:.1f}",
                f"{100 * row.accuracy.mean:.2f} ± {100 * row.accuracy.sd:.2f}",
                "-" if row.nll is None else f"{row.nll.mean:.4f} ± {row.nll.sd:.4f}",
            ]
            for row in rows
        ],
        "± standard deviation over the pools.",
    )
    words = {1: "better", 0: "not shown", -1: "worse"}
    output.print_table(
        "Points over the baselines: mean over the pools, 95 % t interval of the mean",
        ["<team", "<over", "points ± sd", "[interval]", "<shown"],
        [
            [
                row.name if i == 0 else "",
                baseline,
                _signed(gain.mean, gain.sd),
                f"[{gain.low:+.2f}, {gain.high:+.2f}]",
                words[gain.direction],
            ]
            for row in rows
            for i, (baseline, gain) in enumerate(row.gains.items())
        ],
        "How far another training could differ, on these test rows. Fewer than 3 pools show nothing.",
    )


def _print_classes(row: Details) -> None:
    order = sorted(range(len(row.class_names)), key=lambda i: (row.recall[i] != row.recall[i], row.recall[i]))
    shown = order[:20]
    output.print_table(
        f"{row.name}: {'the 20 worst of ' if len(order) > 20 else ''}{len(order)} classes, test split",
        ["<class", "rows", "recall %", "precision %", "F1 %"],
        [
            [
                row.class_names[i],
                f"{row.support[i]:,}",
                *(output.percent(None if x != x else x) for x in (row.recall[i], row.precision[i], row.f1[i])),
            ]
            for i in shown
        ],
        "Most confused: " + (", ".join(f"{a} as {b} ({count:,})" for a, b, count in row.confused) or "none"),
    )
