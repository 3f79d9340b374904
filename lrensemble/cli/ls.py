"""List the members of a pool, best validation accuracy first, and its teams."""

from __future__ import annotations

import argparse
from typing import Any

from lrensemble.cli import output

HELP = "what is in a pool"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.errors import UserError
    from lrensemble.pool import Pool

    pool = Pool.open(args.pool)
    members: list[dict[str, Any]] = []
    for member in pool.members:
        try:
            record = member.record
        except UserError as error:
            members.append({"id": member.id, "status": "damaged", "reason": str(error)})
            continue
        members.append(
            {
                "id": member.id,
                "status": member.status,
                "policy": record.spec.policy,
                "label": record.spec.label,
                "parent": record.parent,
                "seed": record.spec.seed,
                "model": str(record.spec.model),
                "val": record.val,
                "outputs": "labels" if record.is_labels else "probabilities",
                "costs": record.costs,
                "reason": record.reason,
            }
        )
    members.sort(key=lambda m: (-(m.get("val", {}).get("accuracy") or -1), m["id"]))
    teams = []
    for name in pool.team_names:
        try:
            teams.append(pool.team(name))
        except UserError as error:
            output.note(f"team {name} is left out: {error}")
    if args.format == "json":
        output.print_json(
            {
                "pool": str(pool.path),
                "task": pool.task,
                "members": members,
                "teams": teams,
                "control": str(pool.control.path) if pool.control else None,
            }
        )
        return 0
    rows = pool.task.rows
    output.print_rows(
        f"{pool.path}: {len(members)} members",
        [
            {
                "<id": m["id"],
                "<status": m["status"],
                "<policy": m.get("label", m["reason"] or ""),
                "seed": str(m.get("seed", "")),
                "<model": m.get("model", ""),
                "val accuracy %": output.percent(m.get("val", {}).get("accuracy")),
                "± se": output.standard_error(m.get("val", {}).get("accuracy"), rows["val"]),
                "val NLL": output.number(m.get("val", {}).get("nll")),
                "steps": f"{m.get('costs', {}).get('steps', 0):,}",
                "seconds": output.number(m.get("costs", {}).get("seconds"), 1),
            }
            for m in members
        ],
        f"{pool.task.data['name']}: {rows['train']:,} train, {rows['val']:,} validation, {rows['test']:,} test rows, "
        f"{len(pool.task.class_names)} classes"
        + (f". Seeds-only control: {pool.control.path}" if pool.control else ""),
    )
    for m in members:
        if m.get("reason") and m["status"] != "damaged":
            output.say(f"{m['id']} {m['status']}: {m['reason']}")
    if teams:
        output.say("teams: " + ", ".join(f"{team.name} ({len(team.members)})" for team in teams))
    return 0
