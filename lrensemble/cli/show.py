"""Show one member: what it is, what came of it, and its training history."""

from __future__ import annotations

import argparse
from typing import Any

from lrensemble.cli import output

HELP = "one member's record and history"
LINES = 25  # of the history; JSON has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("member", metavar="MEMBER", help="id, or the beginning of one")
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.pool import Pool

    pool = Pool.open(args.pool)
    member = pool.find(args.member)
    record, history = member.record, member.history()
    if args.format == "json":
        output.print_json({**record.model_dump(mode="json"), "status": member.status, "history": history})
        return 0
    spec, rows, accuracy = record.spec, pool.task.rows["val"], record.val.get("accuracy")
    end = f" ({record.reason})" if record.reason else ""
    if accuracy is not None:
        error = output.standard_error(accuracy, rows)
        end += f", validation accuracy {output.percent(accuracy)} ± {error} % (n = {rows:,})"
    output.say(f"{member.id}, {spec.label}: {member.status}{end}")
    facts: list[tuple[str, Any]] = [
        ("policy", spec.policy or "-"),
        *([("derived", f"{spec.derived} of member {record.parent}")] if spec.derived else []),
        ("model", spec.model),
        ("optimizer", spec.optimizer or "-"),
        *(spec.training.model_dump(exclude_defaults=True) if spec.training else {}).items(),
        ("seed", spec.seed),
        *spec.notes.items(),
    ]
    for split, metrics in record.metrics.items():
        n = pool.task.rows[split]
        texts = [f"{key} {output.number(value)}" for key, value in metrics.items() if key != "accuracy"]
        accuracy = metrics.get("accuracy")
        texts.insert(0, f"accuracy {output.percent(accuracy)} ± {output.standard_error(accuracy, n)} %")
        facts.append((f"{split} (n = {n:,})", ", ".join(texts)))
    guessed = [f"{split} {output.percent(pool.chance(split))} %" for split in ("val", "test")]
    facts.append(("chance", f"accuracy {', '.join(guessed)}"))
    facts += [
        (f"{float(target):.2%} reached", f"at step {first['step']:,}, {first['seconds']:.1f} s" if first else "never")
        for target, first in record.targets.items()
    ]
    facts += [(key, f"{value:,}") for key, value in record.costs.items()]
    facts += record.environment.items()
    facts += [("created", record.created), ("finished", record.finished or "-"), ("folder", member.path)]
    output.print_table("", ["<", "<"], [[str(k), str(v)] for k, v in facts])
    if history:
        every = -(-len(history) // LINES)
        shown = [line for i, line in enumerate(history) if (len(history) - 1 - i) % every == 0]
        columns = [key for key in history[0] if key != "seconds"]
        output.print_table(
            f"history ({len(shown)} of {len(history)} lines)",
            [*columns, "seconds"],
            [[_cell(key, line.get(key)) for key in [*columns, "seconds"]] for line in shown],
        )
    for line in record.traceback.split("\n") if record.traceback else ():
        output.say(line)
    return 0


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "NaN"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if key == "seconds" else f"{value:.3g}" if key == "lr" else f"{value:.4f}"
