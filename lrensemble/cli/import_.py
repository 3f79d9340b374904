"""Add members of any framework to a pool by their predictions on its validation and test rows.

  lrensemble import POOL runs/*.npz --labels-val val.csv --labels-test test.csv
  lrensemble import POOL --model xgboost --val val.npy --test test.npy
  lrensemble import POOL --lm-eval out/*/samples_arc_easy_*.jsonl

FILE is an .npz with the arrays val and test, or a folder: of .npz files, or of folders with val.* and test.* (.npy,
.csv, .tsv, .txt, with or without a header). A member is called like its file or folder. Predictions are (rows,
classes) probabilities or logits, or one label a row, or of two classes one probability of class 1. Labels are numbers
from 0, or names of classes (--classes). What files mean is decided for all of them together: what was left out or put
in order is said, and what can be read in two ways is refused. The first import makes the pool and needs the labels.
All files are checked before anything is written; importing the same again changes nothing.

--lm-eval takes samples of lm-evaluation-harness (lm-eval run --log_samples) of a task of multiple choice, a member
each. They have the labels, and make the pool; documents are divided by their hashes into validation and test. With
--model, --val and --test a file is one split.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lrensemble.cli import output
from lrensemble.errors import UserError

if TYPE_CHECKING:
    from lrensemble.pool import Pool
    from lrensemble.pool.importing import Imported

HELP = "add predictions of any framework as members"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", type=Path, help="folder of a pool, or of one to be made")
    parser.add_argument("predictions", metavar="FILE", nargs="*", help=".npz files, or folders")
    parser.add_argument(
        "--lm-eval", metavar="FILE", nargs="*", type=Path, help="samples_TASK_DATE.jsonl, a member each"
    )
    parser.add_argument(
        "--normalise",
        choices=["sum", "chars", "bytes", "pmi"],
        help="for --lm-eval: the score that acc (sum, the default), acc_norm, acc_bytes or acc_mutual_info is of",
    )
    parser.add_argument(
        "--val-share",
        metavar="X",
        type=output.real(0, 1),
        help="for --lm-eval: documents for validation, of a new pool (default: 0.5)",
    )
    parser.add_argument("--val", metavar="FILE", type=Path, help="predictions of the validation rows (with --model)")
    parser.add_argument("--test", metavar="FILE", type=Path, help="predictions of the test rows (with --model)")
    parser.add_argument("--model", metavar="NAME", help="what the member is called (default: like its file)")
    parser.add_argument("--policy", help="the LR policy that it was trained with, if that is known")
    parser.add_argument("--seed", metavar="N", type=output.whole(0, 2**63 - 1), default=0, help="default: 0")
    parser.add_argument(
        "--kind",
        choices=["auto", "probabilities", "logits", "labels"],
        help="what the numbers are (default: auto, and the table says what they were taken for)",
    )
    parser.add_argument(
        "--header",
        choices=["yes", "no"],
        help="whether first lines like 0,1,2 are headers (default: found out where only one is possible)",
    )
    parser.add_argument("--labels-val", metavar="FILE", type=Path, help="true classes of the validation rows")
    parser.add_argument("--labels-test", metavar="FILE", type=Path, help="true classes of the test rows")
    parser.add_argument("--labels", metavar="FILE", type=Path, help="both in one .npz, as val and test")
    parser.add_argument(
        "--classes",
        metavar="A,B,C",
        help="names of the classes in the order of their numbers (1-10: 1, 2, ...), or how many there are",
    )
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    with output.working("importing predictions"):
        pool, members = _import_members(args) if args.lm_eval is None else _import_lm_eval(args)
    if args.format == "json":
        output.print_json(
            {
                "pool": str(pool.path),
                "chance": {split: pool.chance(split) for split in ("val", "test")},
                "members": [
                    {
                        "id": member.record.id,
                        "model": member.source.model,
                        "status": member.record.status,
                        "new": member.new,
                        "kinds": member.kinds,
                        "files": {split: str(path) for split, path in member.source.files.items()},
                        "val": member.record.val,
                    }
                    for member in members
                ],
            }
        )
        return 0
    n = pool.task.rows["val"]
    new = sum(member.new for member in members)
    output.print_rows(
        f"{pool.path}: {new} imported" + (f", {len(members) - new} there already" if new < len(members) else ""),
        [
            {
                "<id": member.record.id,
                "<status": member.record.status,
                "<model": member.source.model,
                "<taken for": " and ".join(dict.fromkeys(member.kinds.values())),
                "val accuracy %": output.percent(member.record.val.get("accuracy")),
                "± se": output.standard_error(member.record.val.get("accuracy"), n),
                "val NLL": output.number(member.record.val.get("nll")),
            }
            for member in members
        ],
        f"{n:,} validation and {pool.task.rows['test']:,} test rows, {len(pool.task.class_names)} classes, "
        f"chance {output.percent(pool.chance('val'))} %.",
    )
    if diverged := sum(member.record.status == "diverged" for member in members):
        output.note(f"{diverged} with predictions that are not finite: kept as diverged, never selected")
    output.say_command("lrensemble", "select", pool.path)
    return 0


def _import_members(args: argparse.Namespace) -> tuple[Pool, list[Imported]]:
    from lrensemble.pool.importing import import_members
    from lrensemble.pool.sources import gather_labels, gather_sources, parse_classes

    _refuse(args, ["normalise", "val_share"], "is for --lm-eval")
    return import_members(
        args.pool,
        gather_sources([Path(p) for p in args.predictions], val=args.val, test=args.test, model=args.model),
        labels=gather_labels(args.labels, args.labels_val, args.labels_test),
        class_names=parse_classes(args.classes),
        policy=args.policy,
        seed=args.seed,
        kind=args.kind or "auto",
        header=None if args.header is None else args.header == "yes",
        tell=output.note,
    )


def _import_lm_eval(args: argparse.Namespace) -> tuple[Pool, list[Imported]]:
    from lrensemble.pool.lm_eval import import_lm_eval, samples_source
    from lrensemble.pool.sources import gather_sources

    own = ["labels", "labels_val", "labels_test", "classes", "header", "kind", "predictions"]
    _refuse(args, own, "is not for --lm-eval, whose samples say it")
    if args.val or args.test:
        _refuse(args, ["val_share"], "is not for --val and --test: each is a split of its own")
        sources = gather_sources([], val=args.val, test=args.test, model=args.model)
    elif not args.lm_eval:
        raise UserError("--lm-eval: no samples are named: give samples_TASK_DATE.jsonl, or --val FILE --test FILE")
    elif args.model and len(args.lm_eval) > 1:
        raise UserError(f"--model {args.model} is the name of one member, but there are {len(args.lm_eval)}")
    else:
        sources = [samples_source(file, args.model) for file in args.lm_eval]
    return import_lm_eval(
        args.pool,
        sources,
        normalise=args.normalise or "sum",
        val_share=0.5 if args.val_share is None else args.val_share,
        policy=args.policy,
        seed=args.seed,
    )


def _refuse(args: argparse.Namespace, names: list[str], why: str) -> None:
    for name in names:
        if getattr(args, name) not in (None, []):
            raise UserError(f"{'FILE' if name == 'predictions' else '--' + name.replace('_', '-')} {why}")
