"""Train every member of a configuration that is not finished yet.

Stopping it at any time and running the same command again goes on where it was. Overrides change the
configuration: training.epochs=5 seeds=3 model.hidden=[128]. Many machines: docs/cluster.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from lrensemble.cli import output
from lrensemble.cli.options import add_devices
from lrensemble.errors import UserError

if TYPE_CHECKING:
    from lrensemble.pool import Pool

HELP = "train the pool of a configuration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file, for example configs/digits.yaml")
    output.add_overrides(parser)
    parser.add_argument("--pool", metavar="DIR", type=Path, help="folder of the pool (default: checkpoints/<name>)")
    output.add_workers(parser)
    parser.add_argument(
        "--per-device", metavar="N", type=output.whole(1, output.MOST), help="runs at a time on every GPU (default: 1)"
    )
    add_devices(parser)
    parser.add_argument(
        "--shard", metavar="I/N", help="train the I-th of N shares of the runs: for job arrays on a shared folder"
    )
    parser.add_argument(
        "--skip-broken", action="store_true", help="leave out images of a folder that cannot be read, and say how many"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and the disk space it needs, train nothing"
    )
    output.add_track(parser)
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.training import load_config, make_plan, train_pool
    from lrensemble.training.device import pick_devices
    from lrensemble.training.runner import OPEN, default_pool
    from lrensemble.training.shard import Shard

    if args.shard is not None and args.on is not None:
        raise UserError("--shard and --on are two ways to train the same runs: give one of them")
    shard = Shard.parse(args.shard) if args.shard is not None else None
    on = output.cluster(args)
    overrides = [*args.overrides, *(["data.skip_broken=true"] if args.skip_broken else [])]
    config = load_config(args.config, overrides)
    if on is None:
        pick_devices(args.devices)  # also of a plan: what it says will be used
    plan = make_plan(config, args.pool or default_pool(config))
    for note in plan.notes:
        output.note(note)
    if args.dry_run:
        _print_plan(plan, args.format)
        return 0

    from lrensemble.cli.progress import progress

    pool = train_pool(
        plan,
        workers=args.workers,
        per_device=args.per_device,
        threads=args.threads,
        on=on,
        devices=args.devices,
        watcher=progress(args.track),
        shard=shard,
    )
    counts = Counter(plan.statuses)
    failed = counts["failed"] + sum(m.status == "failed" for m in (pool.control.members if pool.control else []))
    if args.format == "json":
        output.print_json({"pool": str(pool.path), "members": counts})
    else:
        what = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        which = f"shard {shard} of " if shard else ""
        output.say(f"{which}{pool.path}: {what}{_best(pool) if counts['complete'] else ''}")
        if shard and OPEN & {*counts}:
            control = ", then this one again for its share of the control" if config.control else ""
            output.say_next(f"the other shards{control}")
        elif counts["complete"]:
            output.say_command("lrensemble", "select", pool.path)
    if failed:
        who = "member" if failed == 1 else "members"
        output.note(f"{failed} {who} failed (with the control): lrensemble ls and show say why")
        return 1
    if not OPEN & {*counts}:
        pool.usable()  # says so when every member diverged
    return 0


def _best(pool: Pool) -> str:
    """The member that a team must beat."""
    record, n = pool.best_single().record, pool.task.rows["val"]
    accuracy = record.val["accuracy"]
    return (
        f". Best: {record.spec.label} seed {record.spec.seed}, validation accuracy {output.percent(accuracy)} ± "
        f"{output.standard_error(accuracy, n)} % (n = {n:,})"
    )


def _print_plan(plan, format: str) -> None:  # type: ignore[no-untyped-def]  # Plan would import torch here
    from lrensemble.pool.sizes import size_text

    rows = [
        {
            "id": member_id,
            "status": status,
            "policy": spec.label,
            "seed": spec.seed,
            "model": str(spec.model),
            "optimizer": str(spec.optimizer),
            "batch_size": run.spec.training.batch_size,
            "steps": plan.steps(run),
            "parameters": run.parameters,
        }
        for member_id, status, (run, spec) in zip(plan.ids, plan.statuses, plan.members, strict=True)
    ]
    if format == "json":
        output.print_json(
            {
                "pool": str(plan.pool),
                "members": rows,
                "to_train": len(plan.todo),
                "control": plan.config.control,
                "disk_bytes": plan.total_bytes,
            }
        )
        return
    task = plan.task
    runs, default = len(plan.runs), plan.config.default
    control = f" and {runs} seeds of the default {default.policy}" if default else ""
    control = control or (f" and a seeds-only control of {runs}" if plan.config.control else "")
    output.print_table(
        f"{plan.pool}: {len(rows)} members{control}, {len(plan.todo)} to train",
        ["<id", "<status", "<policy", "seed", "<model", "<optimizer", "batch", "steps", "parameters"],
        [[str(value) if not isinstance(value, int) else f"{value:,}" for value in row.values()] for row in rows],
        f"{plan.config.data.name}: {task.rows('train'):,} train, {task.rows('val'):,} validation and "
        f"{task.rows('test'):,} test rows, {task.num_classes} classes. "
        f"About {size_text(plan.total_bytes)} of disk to be written.",
    )
