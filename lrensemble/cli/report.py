"""Write a report of a pool: one page of html that needs nothing else, and answers first whether the team is worth it.

  lrensemble report POOL                 into POOL/report.html
  lrensemble report POOL -o page.html --team greedy
  lrensemble report POOL --format json   the numbers alone, on stdout
  lrensemble report POOL1 POOL2          each page, and one that compares them
  lrensemble report checkpoints          the same of all pools in a folder

Then: the teams against the best single member and the seeds-only control, who is in the team and why, LR and training
curves, members, diversity, team size, calibration, costs, and how to make it all again. The test split is read, as by
evaluate; nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import os.path
from pathlib import Path

from lrensemble.cli import output

HELP = "one page of html about a pool and its team, or about several pools"
SUFFIXES = (".html", ".htm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pools", metavar="POOL", nargs="+", type=Path, help="a pool; several, or a folder of them")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="the page (default: POOL/report.html; of several index.html)"
    )
    parser.add_argument("--team", metavar="NAME", help="whom it is about (default: the lowest validation NLL)")
    parser.add_argument(
        "--no-data",
        action="store_true",
        help="test rows by their numbers: nothing of the data on the page",
    )
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.cli.ls import pools_below
    from lrensemble.errors import UserError
    from lrensemble.pool import Pool
    from lrensemble.report.page import index_page, page, pool_rows, report_info, write_page
    from lrensemble.report.page.index import NAME

    below = [(folder, pools_below(folder)) for folder in args.pools]
    pools = [Pool.open(path) for folder, inside in below for path in inside or [folder]]
    several = len(pools) > 1
    if several and args.team:
        raise UserError(f"--team {args.team} is of one pool, but there are {len(pools)}: leave it out")
    folder = args.pools[0] if len(args.pools) == 1 else Path(os.path.commonpath([pool.path for pool in pools]))
    path = args.output or (folder / "index.html" if several else pools[0].path / NAME)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a report is a page of html: name it .html (--format json prints its numbers)")
    is_page = args.output or args.format != "json"
    show = is_page and not args.no_data
    with output.working("gathering the numbers of the report") as tell:
        reports = [report_info(pool, args.team, tell, show_rows=show) for pool in pools]
    if is_page:
        for pool, report in zip(pools, reports, strict=True):
            own = pool.path / NAME if several else path
            write_page(page(report), own)
            _written(own)
    if several and is_page:
        write_page(index_page(pool_rows(list(zip(pools, reports, strict=True)), path)), path)
        _written(path)
    if args.format == "json":
        found = [{"split": "test", **report.to_dict()} for report in reports]
        output.print_json(found if several else found[0])
        return 0
    for report in reports:
        output.say(f"{report.pool}: " * several + f"{report.answer.heading}.")
        if several:
            continue
        gains, *more = report.answer.lines
        output.say(gains.removesuffix(".") + ".")
        for line in more:  # on the page, too
            output.say_more(line.removesuffix(".") + ".")
        for note in report.notes:
            output.say(f"note: {note}")
    output.say_next(f"open {path} in a browser")
    return 0


def _written(path: Path) -> None:
    from lrensemble.pool.sizes import size_text

    output.note(f"written: {path} ({size_text(path.stat().st_size)})")
