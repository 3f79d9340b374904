"""Write the histories of all members, finished or not, as TensorBoard event files.

  lrensemble tensorboard POOL            # into POOL/tensorboard
  tensorboard --logdir POOL/tensorboard

One run a member (the control's are in control/): lr, losses, accuracies by step, the policy among the hyperparameters.
The same command again brings the files up to date.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lrensemble.cli import output

HELP = "write TensorBoard event files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="default: POOL/tensorboard")
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.pool import Pool
    from lrensemble.report.tensorboard import write_events

    pool = Pool.open(args.pool)
    folder = args.output or pool.path / "tensorboard"
    with output.working("writing event files"):
        runs, skipped = write_events(pool, folder)
    if args.format == "json":
        output.print_json(
            {
                "folder": str(folder),
                "runs": [{"member": run.member, "path": str(run.path), "lines": run.lines} for run in runs],
                "skipped": skipped,
            }
        )
        return 0
    for line in skipped:
        output.note(f"left out: {line}")
    output.say(f"{folder}: {len(runs)} runs")
    if runs:
        output.say_command("tensorboard", "--logdir", folder)
    return 0
