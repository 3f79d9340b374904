"""Learning-rate policies: which there are, how they look, what a controller found, and which were best in all pools.

  lrensemble policies list
  lrensemble policies show TRI2
  lrensemble policies plot "COS(k0=[0.05, 0.1], l=100%)" --budget 200e -o lr.svg
  lrensemble policies fit checkpoints/pool 3f2a -o trace.svg
  lrensemble policies sync checkpoints
  lrensemble policies top --data digits

A policy goes in quotes: the shell knows parentheses, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrensemble.cli import database, output

if TYPE_CHECKING:
    from lrensemble.policies import Definition
    from lrensemble.report.policy_curves import Curve

HELP = "list, explain and draw them; a database of which were best in your pools"
CAPTION = "LR(t) = |k0 - k1| g(t) + min(k0, k1), t is the optimizer step, from 0."
BUDGET, STEPS_PER_EPOCH = "100e", 100
LONGEST = 10**12  # steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)

    output.add_format(add("list", "every policy with its parameters and formula"))
    show = add("show", "one policy: formula, parameters, an example and its curve")
    show.add_argument("name", metavar="NAME", help="for example TRI2")
    output.add_format(show)
    plot = add("plot", "draw policies, in the terminal or into a file")
    plot.add_argument("policies", metavar="POLICY", nargs="+", help='for example "COS(k0=[0.05, 0.1], l=100%%)"')
    plot.add_argument("--budget", default=BUDGET, help=f"epochs (200e) or steps (5000) to draw (default: {BUDGET})")
    plot.add_argument(
        "--steps-per-epoch",
        metavar="N",
        type=output.whole(1, LONGEST),
        default=STEPS_PER_EPOCH,
        help=f"default: {STEPS_PER_EPOCH}",
    )
    output.add_format(plot)
    plot.add_argument("--log", action="store_true", help="a logarithmic axis for the learning rate")
    plot.add_argument("-o", "--output", metavar="FILE", type=Path, help="draw into FILE: .png, .svg or .html")

    fit = add("fit", "the short policies nearest to the LRs that a controlled run had")
    fit.add_argument("pool", metavar="POOL", help="folder of a pool")
    fit.add_argument("member", metavar="MEMBER", help="id, or the beginning of one")
    fit.add_argument("-o", "--output", metavar="FILE", type=Path, help="draw into FILE: .png, .svg or .html")
    output.add_format(fit)
    database.add_actions(add)


def run(args: argparse.Namespace) -> int:
    actions = {"list": _list, "show": _show, "plot": _plot, "fit": _fit}
    actions |= {"sync": database.sync_pools, "top": database.print_top, "tasks": database.print_tasks}
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from lrensemble.policies import ALIASES, CONTROLS, DEFINITIONS, FUNCTIONS

    len(DEFINITIONS)  # imports what installed packages have
    definitions = [_facts(definition) for table in (FUNCTIONS, ALIASES, CONTROLS) for definition in table.values()]
    if args.format == "json":
        output.print_json({"policies": definitions})
        return 0
    output.print_table(
        f"{len(FUNCTIONS)} policies, {len(ALIASES)} usual names of policies made of them, and controllers: "
        + ", ".join(CONTROLS),
        ["<name", "<parameters", "<formula"],
        [[d["name"], _signature(d["parameters"]), d["formula"]] for d in definitions],
        f"{CAPTION} In brackets: may be left out.",
    )
    return 0


def _signature(parameters: list[dict[str, Any]]) -> str:
    return ", ".join(p["name"] if p["required"] else f"[{p['name']}]" for p in parameters)


def _show(args: argparse.Namespace) -> int:
    from lrensemble.policies import Policy, find_definition, parse_schedule
    from lrensemble.report.policy_curves import policy_curves

    definition = find_definition(args.name)
    facts, example = _facts(definition), definition.example
    if args.format == "json":
        output.print_json({**facts, "example": example})
        return 0
    output.say(f"{facts['name']}: {facts['formula']}")
    if facts["formula"].startswith("g"):
        output.say(CAPTION)
    output.say(f"Source: {facts['source']}")
    output.print_table(
        "",
        ["<name", "<default", "<meaning", "<allowed"],
        [
            [p["name"], "none" if p["required"] else str(p["default"]), p["meaning"], p["allowed"]]
            for p in facts["parameters"]
        ],
    )
    schedule = parse_schedule(example)
    if not isinstance(schedule, Policy):
        output.say(f"Example: {example}. What it does is seen in training only")
        return 0
    total_steps, _ = _budget(BUDGET, STEPS_PER_EPOCH)
    output.say(f"Example, over {BUDGET.removesuffix('e')} epochs of {STEPS_PER_EPOCH} steps: {example}")
    _print_curve(policy_curves([schedule], STEPS_PER_EPOCH, total_steps)[0])
    return 0


def _plot(args: argparse.Namespace) -> int:
    from lrensemble.policies import parse_policies
    from lrensemble.report.figures import check_target
    from lrensemble.report.policy_curves import policy_curves
    from lrensemble.report.policy_plot import draw_policies

    total_steps, epochs = _budget(args.budget, args.steps_per_epoch)
    policies = list(dict.fromkeys(policy for text in args.policies for policy in parse_policies(text)))
    if args.output is not None:
        check_target(args.output)
    curves = policy_curves(policies, args.steps_per_epoch, total_steps)
    length = f"{args.budget.removesuffix('e')} epochs of {args.steps_per_epoch:,} steps" if epochs else ""
    length = length or f"{total_steps:,} steps"
    if args.output is not None:
        draw_policies(curves, args.output, epochs=epochs, log=args.log)
    if args.format == "json":
        shown = [{"policy": c.label, "lr": c.lr.tolist(), "steps": c.steps.tolist()} for c in curves]
        output.print_json({"total_steps": total_steps, "steps_per_epoch": args.steps_per_epoch, "curves": shown})
        return 0
    if args.format == "csv":
        points = [
            (c.label, str(step), repr(lr)) for c in curves for step, lr in zip(c.steps, c.lr.tolist(), strict=True)
        ]
        output.print_table("", ["<policy", "step", "LR"], points)
        return 0
    if args.output is None:
        if args.log:
            output.note("--log is for files: these are scaled from 0 to the highest LR of each policy")
        output.say(f"learning rate over {length}, each from 0 to its maximum")
        for curve in curves:
            _print_curve(curve)
        return 0
    output.say(f"{args.output}: {len(curves)} {'policy' if len(curves) == 1 else 'policies'} over {length}")
    return 0


def _fit(args: argparse.Namespace) -> int:
    import numpy as np

    from lrensemble.errors import UserError
    from lrensemble.policies import Policy
    from lrensemble.policies.nearest import nearest_policies
    from lrensemble.policies.units import steps_per_epoch
    from lrensemble.pool import Pool
    from lrensemble.report.figures import check_target
    from lrensemble.report.policy_curves import policy_curves
    from lrensemble.report.trace_plot import draw_trace

    pool = Pool.open(args.pool)
    record = pool.find(args.member).record
    if record.trace is None or record.spec.training is None:
        what = record.spec.policy or "no policy"
        raise UserError(f"member {record.id} has no trace of a controller ({what}): its policy says its LRs")
    if args.output is not None:
        check_target(args.output)
    training = record.spec.training
    epoch_steps = steps_per_epoch(pool.task.rows["train"], training.batch_size)
    total = training.epochs * epoch_steps
    trace = Policy.parse(record.trace)
    found = nearest_policies(trace(np.arange(total)))
    if args.output is not None:
        curves = policy_curves([trace, found[0].policy], epoch_steps, total)
        labels = (record.spec.policy or "", str(found[0].policy))
        named = [dataclasses.replace(curve, label=label) for curve, label in zip(curves, labels, strict=True)]
        draw_trace(named, (record.control or {}).get("probes", []), args.output)
    if args.format == "json":
        rows = [{"policy": str(near.policy), "numbers": near.numbers, "error": near.error} for near in found]
        output.print_json({"member": record.id, "schedule": record.spec.policy, "nearest": rows})
        return 0
    output.print_table(
        f"{record.spec.policy} of member {record.id}: nearest is {found[0].policy}, {found[0].error:.1%} away",
        ["<policy", "numbers", "difference"],
        [[str(near.policy), str(near.numbers), f"{near.error:.1%}"] for near in found],
        "Difference: the mean over the steps, over the mean LR.",
    )
    if args.output is not None:
        output.say(f"{args.output}: the LRs, the nearest policy and what was measured")
    return 0


def _budget(text: str, steps_per_epoch: int) -> tuple[int, bool]:
    """Steps of a budget, and whether it was given in epochs."""
    from lrensemble.errors import UserError
    from lrensemble.policies import Length

    wrong = f"budget = {text} is not possible: write epochs (200e) or steps (5000), at least one step"
    try:
        length = Length.parse(text)
    except UserError:
        raise UserError(wrong) from None
    if length.unit == "%" or not 0 < length.value <= LONGEST:
        raise UserError(wrong)
    steps = round(length.in_steps(steps_per_epoch, 1).value)
    if not 1 <= steps <= LONGEST:
        raise UserError(f"{wrong} and at most {LONGEST:,}" if steps else wrong)
    return steps, length.unit == "e"


def _print_curve(curve: Curve) -> None:
    from lrensemble.report.policy_curves import sparkline

    width = max(10, min(60, shutil.get_terminal_size().columns - 24))
    output.say(curve.label)
    output.say(f"  {sparkline(curve.columns(width), width)}  {curve.lr.min():.3g} to {curve.lr.max():.3g}")


def _facts(definition: Definition) -> dict[str, Any]:
    from lrensemble.policies import Policy

    # Only functions have a formula; an alias is shown by what its example stands for.
    formula = definition.formula or f"e.g. {Policy.parse(definition.example)}"
    return {
        "name": definition.name,
        "formula": formula,
        "source": definition.source,
        "parameters": [
            {
                "name": p.name,
                "meaning": p.meaning,
                "allowed": p.allowed,
                "required": p.default is None,
                "default": None if p.default is None else _text(p.default),
            }
            for p in definition.parameters
        ],
    }


def _text(value: Any) -> str:
    from lrensemble.policies.units import format_number

    return format_number(value) if isinstance(value, int | float) else str(value)
