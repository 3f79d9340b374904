"""List the members of a pool, best validation accuracy first, and its teams; or the pools in a folder."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrensemble.cli import output

if TYPE_CHECKING:
    from lrensemble.pool import Pool

HELP = "what is in a pool, or which pools there are"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pool",
        metavar="POOL",
        nargs="?",
        type=Path,
        help="a pool, or a folder with pools (default: checkpoints, else this folder)",
    )
    output.add_format(parser)


def pools_below(folder: Path) -> list[Path]:
    """Folders of pools in `folder` and in its folders, without what is inside of pools; none where it is a pool."""
    if (folder / "pool.json").exists():
        return []
    near = [path.parent for path in folder.glob("*/pool.json")]
    far = [path.parent for path in folder.glob("*/*/pool.json") if path.parents[1] not in near]
    return sorted(near + far)


def run(args: argparse.Namespace) -> int:
    from lrensemble.errors import UserError
    from lrensemble.pool import Pool
    from lrensemble.pool.energy import own_joules

    folder = args.pool or (Path("checkpoints") if Path("checkpoints").is_dir() else Path())
    if below := pools_below(folder):
        return _list_pools([Pool.open(path) for path in below], folder, args.format)
    if args.pool is None and not (folder / "pool.json").exists():
        raise UserError("no pool is here or below: lrensemble demo trains one, lrensemble init begins one of yours")
    pool = Pool.open(folder)
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
                "joules": own_joules(member),
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
                "chance": pool.chance("val"),
                "members": members,
                "teams": teams,
                "control": str(pool.control.path) if pool.control else None,
            }
        )
        return 0
    rows, counts = pool.task.rows, Counter(m["status"] for m in members)
    output.say(
        f"{pool.path}: {len(members)} members ({', '.join(f'{n} {status}' for status, n in counts.most_common())}), "
        f"teams: {', '.join(f'{team.name} ({len(team.members)})' for team in teams) or 'none yet'}"
    )
    output.print_rows(
        f"{pool.task.data['name']}: {rows['train']:,} train, {rows['val']:,} validation, {rows['test']:,} test rows, "
        f"{len(pool.task.class_names)} classes, chance {output.percent(pool.chance('val'))} %",
        [
            {
                "<id": m["id"],
                "<policy": m.get("label", m["reason"] or ""),
                "val accuracy %": output.percent(m.get("val", {}).get("accuracy")),
                "± se": output.standard_error(m.get("val", {}).get("accuracy"), rows["val"]),
                "val NLL": output.number(m.get("val", {}).get("nll")),
                "<status": m["status"],
                "seed": str(m.get("seed", "")),
                "<model": m.get("model", ""),
                "steps": f"{m.get('costs', {}).get('steps', 0):,}",
                "seconds": output.number(m.get("costs", {}).get("seconds"), 1),
                "energy J": output.number(m.get("joules"), 1),
            }
            for m in members
        ],
        "energy: of the training, lrensemble energy says from what."
        + (f" Control: {pool.control.path}" if pool.control else ""),
    )
    for m in members:
        if m.get("reason") and m["status"] != "damaged":
            output.say(f"{m['id']} {m['status']}: {m['reason']}")
    if counts["complete"]:
        output.say_command("lrensemble", "evaluate" if teams else "select", pool.path)
    return 0


def _list_pools(pools: list[Pool], folder: Path, format: str) -> int:
    facts = [
        {
            "pool": str(pool.path),
            "data": pool.task.data["name"],
            "members": dict(Counter(member.status for member in pool.members)),
            "teams": list(pool.team_names),
            "control": str(pool.control.path) if pool.control else None,
        }
        for pool in pools
    ]
    if format == "json":
        output.print_json({"pools": facts})
        return 0
    output.print_rows(
        f"{len(pools)} {'pool' if len(pools) == 1 else 'pools'} in {folder}",
        [
            {
                "<pool": row["pool"],
                "<data": row["data"],
                "members": str(sum(row["members"].values())),
                "complete": str(row["members"].get("complete", 0)),
                "teams": str(len(row["teams"])),
                "<control": "yes" if row["control"] else "no",
            }
            for row in facts
        ],
    )
    output.say_command("lrensemble", "ls", pools[0].path if len(pools) == 1 else "POOL")
    return 0
