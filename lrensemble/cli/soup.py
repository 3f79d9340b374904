"""Average the weights of members that share an initialisation, and keep the average where validation agrees.

Tried for every run with its snapshots and averages, and for all runs of one model and seed that were trained with
training.shared_init=true: the uniform soup (all) and the greedy soup (Wortsman et al. 2022). The better one becomes a
member of the pool if its validation NLL is not above that of its best ingredient; select, evaluate and export then
treat it like any other. Else nothing is written.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from lrensemble.cli import output
from lrensemble.cli.options import add_devices

if TYPE_CHECKING:
    from lrensemble.export.soup import Soup, Soups

HELP = "average the weights of members that share an initialisation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    add_devices(parser, "one of cpu, mps, cuda, cuda:1")
    output.add_trust(parser)
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.export.soup import make_soups
    from lrensemble.pool import Pool

    pool = Pool.open(args.pool)
    with output.working("averaging weights") as tell:
        found = make_soups(
            pool, device=args.devices, trust=args.trust, tell=lambda text: tell(f"averaging weights: {text}")
        )
    if args.format == "json":
        output.print_json({"rows": found[0].rows, "groups": found})
        return 0
    for soups in found:
        if soups.written is not None:
            output.say(f"{soups.label}: {_written(soups)}")
    if failed := sum(soups.written is None for soups in found):
        output.say(f"{failed} of {len(found)}: no soup holds up on validation (its NLL is higher): nothing was written")
    output.print_table(
        f"Soups of {args.pool} on the validation split (n = {found[0].rows:,}), ± standard error",
        ("<start", "<what", "members", "NLL", "accuracy %"),
        [row for soups in found for row in _rows(soups)],
    )
    return 0


def _rows(soups: Soups) -> list[tuple[str, ...]]:
    def row(start: str, what: str, soup: Soup) -> tuple[str, ...]:
        return (
            start,
            what,
            str(len(soup.ingredients)),
            f"{soup.nll:.4f} ± {soup.nll_se:.4f}",
            f"{100 * soup.accuracy:.2f} ± {100 * soup.accuracy_se:.2f}",
        )

    return [
        row(soups.label, f"best ingredient {soups.best.ingredients[0]}", soups.best),
        row("", "uniform soup", soups.uniform),
        row("", "greedy soup" if len(soups.greedy.ingredients) > 1 else "greedy soup (nothing added)", soups.greedy),
    ]


def _written(soups: Soups) -> str:
    uniform = len(soups.greedy.ingredients) < 2 or soups.uniform.nll < soups.greedy.nll
    return (
        f"the {'uniform' if uniform else 'greedy'} soup {'is now' if soups.new else 'was written before as'} "
        f"member {soups.written}"
    )
