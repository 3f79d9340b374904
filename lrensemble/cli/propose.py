"""Propose which policies to train next so that the team of a pool gets better.

A surrogate learns from the shape of the LR curves in the pool what each would predict on the validation rows; proposals
are ranked by the expected gain of the team per second of training. Nothing is trained, the test split is not read.
"""

from __future__ import annotations

import argparse
import shlex

from lrensemble.cli import output

HELP = "which policies to train next"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("--n", metavar="N", type=output.whole(1, 10_000), default=5, help="proposals (default: 5)")
    parser.add_argument(
        "--seed", metavar="N", type=output.whole(0, 2**63 - 1), default=0, help="of the candidates (default: 0)"
    )
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.pool import Pool
    from lrensemble.pool.links import CONFIGURATION
    from lrensemble.recommend.propose import propose

    pool = Pool.open(args.pool)
    with output.working("proposing"):
        proposals = propose(pool, args.n, seed=args.seed)
    if args.format == "json":
        output.print_json(
            {
                "pool": str(pool.path),
                "split": "val",
                "rows": pool.task.rows["val"],
                "proposals": proposals,
                "left_out": pool.left_out,
            }
        )
        return 0
    first = proposals[0]
    output.say(
        f"Train {first.spec.policy} next: expected to lower the team's NLL by {output.number(first.gain, 5)} nats, "
        f"itself {output.percent(first.accuracy)} ± {output.percent(first.accuracy_sd)} % accurate on validation "
        f"(n = {pool.task.rows['val']:,})"
    )
    output.print_rows(
        f"{pool.path}: what to train next, best first",
        [
            {
                "<policy": p.spec.policy,
                "gain, nats": output.number(p.gain, 5),
                "accuracy %": output.percent(p.accuracy),
                "± sd": output.percent(p.accuracy_sd),
                "seconds": output.number(p.seconds, 1),
                "errors differ %": output.percent(p.disagreement),
                "diverges %": output.percent(p.diverges),
                "seed": str(p.spec.seed),
            }
            for p in proposals
        ],
        "Predictions by a surrogate, not results. Gain: of the team's NLL, given the rows above.",
    )
    output.say_more("Errors differ: share of rows on which just one of it and a member of the team is right.")
    for p in proposals:
        output.say_more(f"{p.spec.policy}: {p.explanation}")
    if (config := pool.path / CONFIGURATION).exists():
        seed = f" seeds=[{first.spec.seed}]" if first.spec.seed else ""
        policy = shlex.quote(f'policies=["{first.spec.policy}"]')
        output.say_next(f"lrensemble train {config} --pool {pool.path} {policy}{seed}")
    return 0
