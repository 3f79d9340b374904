"""Pools, members and teams as a notebook shows them, and the members of a pool as a data frame."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lrensemble.errors import UserError
from lrensemble.metrics import standard_error
from lrensemble.notebook import block, curve, frame, line, table

if TYPE_CHECKING:
    import pandas

    from lrensemble.pool.member import Member
    from lrensemble.pool.pool import Pool
    from lrensemble.pool.team import Team

MOST = 10  # members in a table


def pool_html(pool: Pool) -> str:
    """The best members, how many there are, and the teams."""
    header, members = pool.task, pool.members
    done = sorted(pool.complete, key=lambda member: -(member.record.val["accuracy"] or 0.0))
    rows = header.rows["val"]
    shown = []
    for number, member in enumerate(done[:MOST], 1):
        spec, val = member.record.spec, member.record.val
        accuracy, nll = val["accuracy"] or 0.0, val["nll"]
        percent = f"{100 * accuracy:.2f} ± {100 * standard_error(accuracy, rows):.2f}"
        shown.append((number, spec.label, spec.seed, percent, None if nll is None else f"{nll:.4f}", member.id))
    columns = ("#", "<policy", "seed", "validation accuracy %", "validation NLL", "<id")
    more = f"; the best {MOST}" if len(done) > MOST else ""
    what = f"Pool {header.name}: {len(done)} of {len(members)} members are complete"
    about = f"{header.data['name']}, {len(header.class_names)} classes, {rows:,} validation rows{more}"
    teams = "Teams: " + (", ".join(pool.team_names) or "none yet: select_teams(pool)")
    return block(what, line(about), table(columns, shown), line(teams))


def member_html(member: Member) -> str:
    """Status, scores and costs, and how its validation accuracy went."""
    if member.status in ("new", "damaged"):  # without a record that says more
        return block(f"Member {member.id}: {member.status}")
    record = member.record
    facts: list[tuple[str, object]] = [
        ("status", f"{record.status}{f': {record.reason}' if record.reason else ''}"),
        ("model", record.spec.model),
        ("seed", record.spec.seed),
    ]
    for split, scores in record.metrics.items():
        facts += [(f"{split} {name}", f"{value:.4f}") for name, value in scores.items() if value is not None]
    facts += [(name, f"{value:,.10g}") for name, value in record.costs.items()]
    try:
        logged = [entry.get("val_accuracy") for entry in member.history() if isinstance(entry, dict)]
    except UserError:
        logged = []
    known = [float(value) for value in logged if isinstance(value, int | float) and math.isfinite(value)]
    name = f"validation accuracy, from {100 * known[0]:.2f} % to {100 * known[-1]:.2f} %" if known else ""
    picture = curve(known, name) + line(name) if len(known) > 1 else ""
    return block(f"Member {member.id}: {record.spec.label}", picture, table(("<what", "<value"), facts))


def team_html(team: Team) -> str:
    """How it was chosen, what it scored there, and its members, the heaviest first."""
    scores = ", ".join(f"{name} {value:.4f}" for name, value in team.validation.items())
    chosen = f"{team.selector}, {team.vote} vote, {team.teams_tried:,} teams tried, selected for {team.objective}"
    on = f"validation (n = {team.validation_rows:,}): {scores}"
    rows = sorted(team.members.items(), key=lambda pair: -pair[1])
    count = f"Team {team.name}: {len(team.members)} of {len(team.candidates)} members"
    more = [line(f"and {len(rows) - MOST} more")] if len(rows) > MOST else []
    weights = table(("<member", "weight"), [(i, f"{weight:.3f}") for i, weight in rows[:MOST]])
    return block(count, line(chosen), line(on), weights, *more)


def members_frame(pool: Pool) -> pandas.DataFrame:
    """One row a member, finished or not: id, policy, model, seed, status, validation scores and costs.

    Accuracies are shares, NLL is in nats. Raises `UserError` where pandas is missing.
    """
    rows: list[dict[str, Any]] = []
    for member in pool.members:
        if member.status == "damaged":
            rows.append({"id": member.id, "status": "damaged"})
            continue
        record = member.record
        scores = {f"{split}_{name}": value for split, all_ in record.metrics.items() for name, value in all_.items()}
        rows.append(
            {
                "id": member.id,
                "label": record.spec.label,
                "policy": record.spec.policy,
                "model": str(record.spec.model),
                "seed": record.spec.seed,
                "status": member.status,
                "reason": record.reason,
                **scores,
                **record.costs,
            }
        )
    return frame(rows)
