"""Find the learning rate of a configuration: a range test of its model, optimizer, batches and augmentation.

The LR grows from step to step until the loss explodes. LRs train from where the smoothed loss has fallen by a quarter
to where it has risen again by a tenth; the middle of them, on a logarithmic scale, is the answer. How far apart the
sweeps are says how much to trust it. Nothing is written but the picture, and the configuration's policies do not
matter. Exit code 1: a loss that does not fall suggests nothing.

  lrensemble lr-find configs/digits.yaml -o lr.svg
  lrensemble lr-find configs/digits.yaml optimizer=AdamW --steps 400 --repeats 5
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrensemble.cli import output
from lrensemble.cli.options import add_devices

if TYPE_CHECKING:
    from lrensemble.policies.sweep import RangeTest
    from lrensemble.pool import RunSpec

HELP = "find the learning rate by a range test"
BLOCKS = 60  # of the loss in the terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file; its policies do not matter")
    output.add_overrides(parser)
    parser.add_argument("--low", metavar="LR", type=output.real(1e-12, 1e6), default=1e-5, help="first (default: 1e-5)")
    parser.add_argument("--high", metavar="LR", type=output.real(1e-12, 1e6), default=10.0, help="last (default: 10)")
    parser.add_argument(
        "--steps", metavar="N", type=output.whole(10, 10_000), default=200, help="of a sweep (default: 200)"
    )
    parser.add_argument("--shape", choices=["exp", "linear"], default="exp", help="how the LR grows (default: exp)")
    parser.add_argument(
        "--repeats",
        metavar="N",
        type=output.whole(1, 100),
        default=3,
        help="sweeps, each from new weights (default: 3)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="draw into FILE: .png, .svg or .html")
    add_devices(parser, "one of cpu, mps, cuda, cuda:1")
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.errors import UserError
    from lrensemble.report.figures import check_target
    from lrensemble.training import load_config, make_plan
    from lrensemble.training.range_test import range_test

    config = load_config(args.config, args.overrides)
    plan = make_plan(config, Path("checkpoints") / config.name)
    # What differs in policy and seed only is one test.
    specs = list({_settings(spec): spec for spec in plan.specs}.values())
    if args.output is not None:
        check_target(args.output)
        if len(specs) > 1:
            raise UserError(f"--output draws one test, the configuration has {len(specs)}: leave out its grid")
    tests = []
    with output.working("range test") as tell:
        for spec in specs:
            name = f"{spec.model}, {spec.optimizer}"
            tests.append(
                range_test(
                    spec,
                    plan.task,
                    low=args.low,
                    high=args.high,
                    steps=args.steps,
                    shape=args.shape,
                    repeats=args.repeats,
                    engine=config.engine,
                    device=args.devices,
                    tell=lambda sweep, step, name=name: tell(  # type: ignore[misc]
                        f"{name}: sweep {sweep + 1} of {args.repeats}, step {step + 1:,} of at most {args.steps:,}"
                    ),
                )
            )
    if args.format == "json":
        output.print_json({"tests": [_facts(spec, test) for spec, test in zip(specs, tests, strict=True)]})
    else:
        for spec, test in zip(specs, tests, strict=True):
            _print(spec, test)
    if args.output is not None:
        from lrensemble.report.range_plot import draw_range_test

        draw_range_test(tests[0], args.output)
        output.note(f"drawn: {args.output}")
    return 0 if all(test.suggestions for test in tests) else 1


def _settings(spec: RunSpec) -> str:
    return spec.model_copy(update={"policy": "", "seed": 0}).model_dump_json()


def _facts(spec: RunSpec, test: RangeTest) -> dict[str, Any]:
    own = {
        "model": str(spec.model),
        "optimizer": str(spec.optimizer),
        "training": spec.training.model_dump(mode="json"),
    }
    return {**own, "lr": test.lr if test.suggestions else None, **dataclasses.asdict(test)}


def _print(spec: RunSpec, test: RangeTest) -> None:
    from lrensemble.report.policy_curves import sparkline

    what = f"{spec.model}, {spec.optimizer}, batches of {spec.training.batch_size}"
    if not test.suggestions:
        output.say(f"no LR for {what}: {test.reason}")
        return
    best, count = test.suggestions["middle"], len(test.curves)
    output.say(
        f"peak LR {best.lr:.2g} for {what}: the middle of what trains, {test.low:.2g} to {test.high:.2g} "
        f"({best.low:.2g} to {best.high:.2g} in {best.n} of {count} sweeps). For example: KNEE(k0={best.lr:.2g})"
    )
    curve = test.curves[-1]
    low, high = min(curve.smooth), max(curve.smooth)
    line = sparkline([loss - low for loss in curve.smooth], BLOCKS)
    output.say(f"  {line}  loss {low:.3g} to {high:.3g}, LR {curve.lr[0]:.2g} to {curve.lr[-1]:.2g}, the last sweep")
    output.print_table(
        "",
        ["<suggestion", "LR", "lowest", "highest", "sweeps"],
        [[name, *(f"{lr:.3g}" for lr in (s.lr, s.low, s.high)), str(s.n)] for name, s in test.suggestions.items()],
    )
