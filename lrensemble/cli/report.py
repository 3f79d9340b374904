"""Write a report of a pool: one page of html that needs nothing else, and answers first whether the team is worth it.

  lrensemble report POOL                     into POOL/report.html
  lrensemble report POOL -o page.html --team greedy
  lrensemble report POOL --format json       the numbers alone, on stdout

Then: the teams against the best single member and the seeds-only control, who is in the team and why, LR and training
curves, members, diversity, team size, calibration, costs, and how to make it all again. The test split is read, as by
evaluate; nothing is chosen by it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lrensemble.cli import output

HELP = "one page of html about a pool and its team"
SUFFIXES = (".html", ".htm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="the page (default: POOL/report.html)")
    parser.add_argument("--team", metavar="NAME", help="whom it is about (default: the lowest validation NLL)")
    parser.add_argument(
        "--no-data",
        action="store_true",
        help="test rows by their numbers: nothing of the data on the page",
    )
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.errors import UserError
    from lrensemble.pool import Pool
    from lrensemble.pool.sizes import size_text
    from lrensemble.report.page import report_info, write_report

    pool = Pool.open(args.pool)
    path = args.output or pool.path / "report.html"
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a report is a page of html: name it .html (--format json prints its numbers)")
    with output.working("gathering the numbers of the report") as tell:
        report = report_info(pool, args.team, tell, show_rows=not args.no_data and args.format != "json")
    if args.output or args.format != "json":
        write_report(report, path)
        output.note(f"written: {path} ({size_text(path.stat().st_size)})")
    if args.format == "json":
        output.print_json({"split": "test", **report.to_dict()})
        return 0
    for line in [report.answer.heading, *report.answer.lines]:
        output.say(line.removesuffix(".") + ".")
    for note in report.notes:
        output.say(f"note: {note}")
    output.say_next(f"open {path} in a browser")
    return 0
