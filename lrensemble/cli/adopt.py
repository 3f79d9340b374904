"""Make checkpoints that exist members of a pool: they are run on its validation and test rows.

  lrensemble adopt POOL runs/ --model my_models:Net --config my_data.yaml
  lrensemble adopt POOL *.pt --model my_models:Net --study sqlite:///tune.db

FILE is a checkpoint (safetensors, a state dict of torch.save, Lightning's .ckpt, timm's .pth.tar) or a folder: of
Hugging Face, peft or timm, or with checkpoints somewhere in it. Nothing is unpickled. Hyperparameters, LR policy, steps
and history are read from what lies beside (hparams.yaml, args.yaml, trainer_state.json, params.json, result.json,
metrics.csv, W&B's config.yaml, FILE.csv, ...). All files are checked and run before any is added; the same again
changes nothing. The answer is what a team of them is worth on the test split.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lrensemble.cli import output
from lrensemble.cli.options import add_devices

if TYPE_CHECKING:
    from lrensemble.adopt import Adopted

HELP = "make checkpoints that exist members of a pool"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", type=Path, help="folder of a pool, or of one to be made")
    parser.add_argument("files", metavar="FILE", nargs="*", help="checkpoints, or folders with some")
    parser.add_argument(
        "--model", metavar="NAME", help="package.module:callable, timm:NAME, ... (or in the configuration)"
    )
    parser.add_argument("--config", metavar="FILE", help="YAML with data, and model (default: the data of the pool)")
    parser.add_argument(
        "--policy", metavar="POLICY", help="of all runs, e.g. 'COS(k0={lr}, l=100%%)' with each one's lr"
    )
    parser.add_argument("--study", metavar="URL", help="an Optuna storage: the checkpoint trial_7.pt is of trial 7")
    parser.add_argument("--study-name", metavar="NAME", help="where the storage has several studies")
    parser.add_argument("--part", metavar="NAME", help="of a file with the weights of several, e.g. state_dict_ema")
    add_devices(parser)
    parser.add_argument(
        "--skip-broken", action="store_true", help="leave out checkpoints that do not fit, and say why for each"
    )
    output.add_trust(parser)
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.adopt import adopt, worth

    with output.working("loading the pool's rows") as step:
        pool, members = adopt(
            args.pool,
            args.files,
            config=args.config,
            model=args.model,
            policy=args.policy,
            study=args.study,
            study_name=args.study_name,
            part=args.part,
            devices=args.devices,
            skip_broken=args.skip_broken,
            trust=args.trust,
            tell=output.note,
            step=step,
        )
    with output.working("selecting and evaluating teams"):
        found = worth(pool)
    if args.format == "json":
        output.print_json(
            {
                "pool": str(pool.path),
                "members": [
                    {"id": m.record.id, "path": m.path, "new": m.new, "status": m.record.status, "val": m.record.val}
                    for m in members
                ],
                "worth": found
                and {"answer": str(found), "split": "test", "rows": found.evaluation.rows}
                | {"runs": found.runs, "team": found.team.name, "size": len(found.team.members), "points": found.gain},
            }
        )
        return 0
    if found:
        output.say(f"{found}.")
    _print(str(pool.path), pool.task.rows["val"], members)
    output.say_command("lrensemble", "evaluate" if found else "ls", pool.path)
    return 0


def _print(pool: str, n: int, members: list[Adopted]) -> None:
    new = sum(member.new for member in members)
    old = f", {len(members) - new} there already" if new < len(members) else ""
    output.print_rows(
        f"{pool}: {new} adopted{old}",
        [
            {
                "<checkpoint": str(member.path),
                "<id": member.record.id,
                "<status": member.record.status,
                "<policy": member.record.spec.policy or "-",
                "val accuracy %": output.percent(member.record.val.get("accuracy")),
                "± se": output.standard_error(member.record.val.get("accuracy"), n),
                "val NLL": output.number(member.record.val.get("nll")),
                "steps": f"{member.record.costs['steps']:,}" if "steps" in member.record.costs else "-",
            }
            for member in members
        ],
        f"Accuracy and NLL on {n:,} validation rows, computed here.",
    )
