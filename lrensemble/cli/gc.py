"""Free disk: say what would be deleted, and with --yes delete it.

In this order, until the pool (with its control) is not larger than --max-size:
  1. leftovers of killed processes (these go without --max-size, too)
  2. weights of members in no team: the control's, then the worst first
  3. failed members
  4. with --members: whole members in no team, with their predictions
     (training makes its own again; your own loops' and imports are gone)
The members of teams and the best ones stay whole, and predictions stay with their members: select and evaluate need
no weights. A member that is being trained is never touched.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from lrensemble.cli import output

if TYPE_CHECKING:
    from lrensemble.pool.gc import Sweep

HELP = "free disk: leftovers, weights that no team needs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("--max-size", metavar="SIZE", help="what the pool may take, e.g. 2GB; 0: all that may go")
    parser.add_argument(
        "--keep-best",
        metavar="K",
        type=output.whole(0),
        default=1,
        help="the K best on validation stay whole (default: 1)",
    )
    parser.add_argument("--team-weights", action="store_true", help="the weights of teams' members may go as well")
    parser.add_argument("--members", action="store_true", help="whole members in no team may go as well")
    parser.add_argument("--yes", action="store_true", help="delete; without it nothing is done")
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.pool import Pool
    from lrensemble.pool.gc import collect, plan_gc
    from lrensemble.pool.sizes import parse_size, size_text

    limit = None if args.max_size is None else parse_size(args.max_size)
    plan = plan_gc(
        Pool.open(args.pool),
        limit,
        keep_best=args.keep_best,
        keep_teams=not args.team_weights,
        whole_members=args.members,
    )
    if args.yes:
        plan = collect(plan)
    if args.format == "json":
        output.print_json(
            {
                "pool": str(plan.pool),
                "deleted": args.yes,
                "bytes": plan.bytes,
                "bytes_after": plan.bytes_after,
                "max_bytes": plan.limit,
                "fits": plan.fits,
                "items": plan.items,
                "skipped": plan.skipped,
            }
        )
    else:
        _print(plan, args.yes)
    if not plan.fits:
        output.note(
            f"that is more than {size_text(plan.limit or 0)}: the rest is kept (teams, the best, predictions). "
            "--members and --team-weights let more go"
        )
    return 0 if plan.fits else 1


def _print(plan: Sweep, deleted: bool) -> None:
    from lrensemble.pool.sizes import size_text

    sizes = f"{size_text(plan.bytes)} -> {size_text(plan.bytes_after)}"
    if not plan.items:
        output.say(f"{plan.pool}: {size_text(plan.bytes)}, nothing to delete")
    else:
        output.say(f"{plan.pool}: {sizes}{'' if deleted else '. Nothing was deleted yet: the same with --yes does it'}")
        output.print_rows(
            "Deleted" if deleted else "Would be deleted, in this order",
            [
                {
                    "<what": item.what,
                    "<member": item.member or "",
                    "val accuracy %": output.percent(item.accuracy),
                    "size": size_text(item.bytes),
                    "<why": item.why,
                    "<file or folder": str(item.path.relative_to(plan.pool)),
                }
                for item in plan.items
            ],
        )
    for line in plan.skipped:
        output.note(f"left alone: {line}")
