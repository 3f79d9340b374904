"""Write a configuration to begin with: commented, and it trains as it is.

  lrensemble init                    scikit-learn's digits, a minute
  lrensemble init images             with a small folder of pictures for yours
  lrensemble init images photos      photos/train/CLASS/IMAGE, photos/test/...
  lrensemble init tabular patients.csv --target diagnosis
  lrensemble init model              own_model.py has a network to change
  lrensemble init events             simulated events for spiking networks
  lrensemble init text texts.jsonl   {"text": ..., "label": ...}, LoRA

  lrensemble init --schema           keys and types of all, for your editor

TASK may also be any other example: cifar10, finetune, fashion_mnist, ...
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lrensemble.cli import output

HELP = "write a configuration to begin with"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task",
        metavar="TASK",
        nargs="?",
        default="digits",
        help="digits (default), images, tabular, model, ...",
    )
    parser.add_argument("data", metavar="DATA", nargs="?", type=Path, help="your folder of images, table or texts")
    parser.add_argument("--target", metavar="COLUMN", help="of a table: what is to be predicted")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: TASK.yaml")
    parser.add_argument("--schema", action="store_true", help="write a JSON schema of configurations instead")
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.examples import begin

    if args.schema:
        return _schema(args.output or Path("lrensemble.schema.json"))
    path = args.output or Path(f"{args.task}.yaml")
    made = begin(args.task, path, args.data, args.target)
    if args.format == "json":
        output.print_json({"config": str(path), "beside": made})
        return 0
    output.say(f"{path}: a configuration to read and change")
    for line in made:
        output.say(line)
    output.say_command("lrensemble", "train", path)
    return 0


def _schema(path: Path) -> int:
    from lrensemble.errors import UserError
    from lrensemble.pool.files import write_json
    from lrensemble.training.schema import config_schema

    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} for {path.name}: make it first")
    write_json(path, config_schema())
    output.say(f"{path}: as the first line of a configuration, an editor with a YAML language server checks it:")
    output.say(f"# yaml-language-server: $schema={path}")
    return 0
