"""Propose which policies to train next so that the team of a pool gets better; with --train train them, in rounds.

  lrensemble propose POOL                        what to train next, and why
  lrensemble propose CONFIG --train --rounds 5   train, propose, train that, ...
  lrensemble propose CONFIG --train --members 40 --time 2h

A surrogate learns from the shape of the LR curves in the pool what each would predict on the validation rows; proposals
are ranked by the expected gain of the team per second of training. The test split is not read. Rounds can be stopped at
any time, the same command goes on; several processes with one pool on a shared folder divide the work.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lrensemble.cli import output, rounds
from lrensemble.cli.options import add_devices, add_old_name, add_time
from lrensemble.errors import UserError

HELP = "which policies to train next; --train trains them, in rounds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL|CONFIG", help="folder of a pool; with --train a configuration")
    parser.add_argument("-n", metavar="N", type=output.whole(1, 10_000), help="proposals (default: 5; of a round 4)")
    parser.add_argument(
        "--seed", metavar="N", type=output.whole(0, 2**63 - 1), default=0, help="of the candidates (default: 0)"
    )
    output.add_format(parser)
    training = parser.add_argument_group("rounds of train, select, propose")
    training.add_argument("--train", action="store_true", help="train the configuration, then what is proposed")
    training.add_argument("--rounds", metavar="N", type=output.whole(), help="after the configuration (default: 5)")
    training.add_argument(
        "--members", metavar="N", type=output.whole(), help="stop at so many runs, the configuration's included"
    )
    add_time(training, "stop after this time, when a member is done")
    training.add_argument("--pool", dest="folder", metavar="DIR", type=Path, help="default: checkpoints/<name>")
    add_devices(training)
    output.add_track(training)
    output.add_workers(training)
    output.add_overrides(training)
    add_old_name(parser, "--n", "-n")


def run(args: argparse.Namespace) -> int:
    if args.train:
        return rounds.run(args)
    for name in ("rounds", "members", "time", "folder", "workers", "threads", "on", "track", "resource", "devices"):
        if getattr(args, name) not in (None, [], "auto"):
            raise UserError(f"--{'pool' if name == 'folder' else name} is for --train")
    if args.overrides:
        raise UserError(f"{args.overrides[0]}: a pool has its configuration; overrides are for --train")
    if Path(args.pool).is_file():
        raise UserError(f"{args.pool} is a file: give the folder of a pool, or --train to train a configuration")
    return _propose(args)


def _propose(args: argparse.Namespace) -> int:
    from lrensemble.pool import Pool
    from lrensemble.pool.links import CONFIGURATION
    from lrensemble.recommend.propose import propose

    pool = Pool.open(args.pool)
    with output.working("proposing"):
        proposals = propose(pool, args.n or 5, seed=args.seed)
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
        f"{pool.path}: what to train next, in this order",
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
        overrides = [f'policies=["{first.spec.policy}"]', *([f"seeds=[{first.spec.seed}]"] if first.spec.seed else [])]
        output.say_command("lrensemble", "train", config, "--pool", pool.path, *overrides)
    return 0
