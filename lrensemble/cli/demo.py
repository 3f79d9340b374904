"""The whole job on scikit-learn's digits, in any folder: train a pool, select teams, evaluate them, write a report.

28 small networks, about half a minute on 2 CPU cores. The pool is checkpoints/demo; the same command goes on.
Overrides change the configuration: lrensemble demo training.epochs=5.
"""

from __future__ import annotations

import argparse
import shlex

from lrensemble.cli import output

HELP = "the whole job on handwritten digits: a minute"
POOL = "checkpoints/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_overrides(parser)
    output.add_workers(parser)


def run(args: argparse.Namespace) -> int:
    import os.path

    from lrensemble.examples import example

    config = str(example("demo"))
    given = [(f"--{name}", getattr(args, name)) for name in ("workers", "threads")]
    how = [word for name, value in given if value is not None for word in (name, str(value))]
    near = os.path.relpath(config)
    steps = [
        ["train", config if near.startswith("..") else near, *args.overrides, "--pool", POOL, *how],
        ["select", POOL],
        ["evaluate", POOL],
        ["report", POOL],
    ]
    for words in steps:
        output.configure(args)
        output.say(f"$ {shlex.join(['lrensemble', *words])}")
        step = args.root.parse_args(words)
        output.configure(step)
        if code := step.run(step):
            return int(code)
        output.print_text("")
    output.say("Yours: lrensemble init images, tabular or model begins a configuration, with the next command.")
    output.say_next(f"lrensemble export {POOL} -o team")
    return 0
