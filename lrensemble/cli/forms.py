"""A table of a pool's runs: every form of LR policy by the largest LR that it reaches, and which of them won.

Which form is best depends on the value: compare pairs of both. The winner is the best on validation; test stands beside
it and decides nothing. Numbers are means over seeds, intervals of 95 % over the rows.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from lrensemble.cli import output

if TYPE_CHECKING:
    from lrensemble.evaluation.forms import FormTable, SplitScore

HELP = "which form of LR policy won at which value, in one pool or several"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pools", metavar="POOL", nargs="+", help="folders of pools")
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.evaluation.forms import form_table
    from lrensemble.pool import Pool

    tables = [form_table(Pool.open(path)) for path in args.pools]
    if args.format == "json":
        output.print_json({"pools": [table.plain() for table in tables]})
        return 0
    for table in tables:
        first, rows = table.scores[0], table.rows
        output.say(
            f"{table.pool}: {first.form} at {first.value:g} won on validation, {output.percent(first.val.accuracy)} % "
            f"(n = {rows['val']:,}); test {_accuracy(first.test)} % (n = {rows['test']:,}), "
            f"chance {output.percent(table.chance['test'])} %"
        )
    for table in tables:
        output.print_rows(
            f"{table.pool}, val n = {table.rows['val']:,}, test n = {table.rows['test']:,}, intervals of 95 %",
            [
                {
                    "<form": score.form,
                    "largest LR": f"{score.value:g}",
                    "val %": _accuracy(score.val),
                    "val NLL": output.number(score.val.nll),
                    "test %": _accuracy(score.test),
                    "test NLL": output.number(score.test.nll),
                    "seeds": str(len(score.members)),
                    "steps to 95 % of its best": f"{score.steps:,.0f}",
                    f"{table.unit} a second": f"{score.tokens:,.0f}",
                }
                for score in table.scores
            ],
            _best_at_each(table),
        )
    return 0


def _accuracy(score: SplitScore) -> str:
    low, high = score.interval
    return f"{output.percent(score.accuracy)} [{output.percent(low)}, {output.percent(high)}]"


def _best_at_each(table: FormTable) -> str:
    best = sorted(table.by_value.items())
    return "Best form at each value: " + ", ".join(f"{value:g} {score.form}" for value, score in best)
