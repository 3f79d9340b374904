"""Free disk: what may go, in which order, until a pool fits into a size.

1. ``leftover``: temporary files of killed processes, ``state.pt`` of finished members, folders without a record.
2. ``weights`` of members in no team: the seeds-only control's first, then the worst on validation first.
3. ``failed`` members, which the next training would start again anyway.
4. ``member``, only where asked for: whole members in no team, worst first. Predictions never go without their member:
   they are the pool.

Never touched: members in a team, the best few on validation, a member that a process holds, damaged records (a person
should look), anything behind a link inside of the pool, anything that lrensemble did not write.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import Timeout

from lrensemble.errors import UserError
from lrensemble.pool.files import clear_disk_errors, now
from lrensemble.pool.links import delete, link_above
from lrensemble.pool.member import Member
from lrensemble.pool.pool import CONTROL, Pool, by_accuracy
from lrensemble.pool.record import FINISHED

WEIGHTS = "weights.safetensors"
STATE = "state.pt"
STALE_SECONDS = 3600.0  # outside of members no lock says whether a temporary file is still being written
What = Literal["leftover", "weights", "failed", "member"]


@dataclass(frozen=True)
class Item:
    """Something that may go.

    Attributes
    ----------
    path : a file, or the folder of a whole member
    member : id, if it belongs to one
    why : for people
    accuracy : of the member on validation, if it is known
    """

    what: What
    path: Path
    bytes: int
    member: str | None = None
    why: str = ""
    accuracy: float | None = None


@dataclass(frozen=True)
class Sweep:
    """What `collect` deletes.

    Attributes
    ----------
    bytes : what the pool takes now, the control included
    items : in the order of deletion
    limit : bytes that the pool shall take at most; None: nothing but leftovers go
    skipped : what was left alone and why
    """

    pool: Path
    bytes: int
    limit: int | None
    items: list[Item]
    skipped: list[str]

    @property
    def bytes_after(self) -> int:
        return self.bytes - sum(item.bytes for item in self.items)

    @property
    def fits(self) -> bool:
        return self.limit is None or self.bytes_after <= self.limit


def plan_gc(
    pool: Pool,
    max_size: int | None = None,
    *,
    keep_best: int = 1,
    keep_teams: bool = True,
    whole_members: bool = False,
) -> Sweep:
    """Choose what to delete so that the pool takes at most `max_size` bytes. Nothing is written.

    Parameters
    ----------
    max_size : int, optional
        Default: leftovers go and nothing else. 0: everything that may go.
    keep_best : int
        Members, the best by validation accuracy, that stay whole.
    keep_teams : bool
        False lets the weights of teams' members go too; the members themselves stay.
    whole_members : bool
        Also delete whole members in no team, predictions included. `lrensemble train` would train them again.
    """
    if keep_best < 0:
        raise UserError(f"keep-best = {keep_best} is not possible: it must be >= 0")
    total = _bytes(pool.path)
    skipped: list[str] = []
    found: dict[What, list[Item]] = {"leftover": [], "weights": [], "failed": [], "member": []}
    parts = [pool]
    if (pool.path / CONTROL).is_symlink():
        skipped.append(f"{pool.path / CONTROL}: it is a link")
    elif pool.control:
        parts.insert(0, pool.control)  # its weights are of the least use
    for part in parts:
        members = _readable(part, skipped)
        in_teams = {i for team in part.teams for i in team.members}
        ranked = sorted((m for m in members if m.record.status in FINISHED), key=by_accuracy, reverse=True)
        best = {m.id for m in ranked[::-1][: keep_best if part is pool else 0]}
        whole = best | in_teams
        with_weights = best | (in_teams if keep_teams else set())
        found["leftover"] += _leftovers(part, members)
        found["weights"] += [item for m in ranked if m.id not in with_weights and (item := _weights(m, in_teams))]
        found["failed"] += [_whole(m, "failed", m.record.reason or "") for m in members if m.status == "failed"]
        if whole_members and part is pool:
            found["member"] += [_whole(m, "member", "in no team") for m in ranked if m.id not in whole]
    items = found["leftover"]
    excess = total - sum(item.bytes for item in items) - (total if max_size is None else max_size)
    for item in [*found["weights"], *found["failed"], *found["member"]]:
        if excess <= 0:
            break
        # A whole member goes with its weights: what was chosen of it before is no gain of its own.
        inside = [other for other in items if item.path in other.path.parents]
        items = [other for other in items if other not in inside] + [item]
        excess -= item.bytes - sum(other.bytes for other in inside)
    return Sweep(pool.path, total, max_size, items, skipped)


def collect(plan: Sweep) -> Sweep:
    """Delete what `plan` says, and return what was deleted. A member that a process has taken meanwhile stays."""
    done, skipped = [], list(plan.skipped)
    for item in plan.items:
        with clear_disk_errors(item.path):
            if item.member is None:
                delete(item.path)
                done.append(item)
                continue
            member = Member(next(path for path in (item.path, *item.path.parents) if path.name == item.member))
            try:
                with member.hold(wait=False):
                    if reason := _changed(member, item):
                        skipped.append(f"member {item.member}: {reason}")
                    else:
                        _delete(member, item)
                        done.append(item)
            except Timeout:
                skipped.append(f"member {item.member}: a process is training it")
    return Sweep(plan.pool, plan.bytes, plan.limit, done, skipped)


def _changed(member: Member, item: Item) -> str:
    """Why an item that was chosen must stay now, if it must."""
    status = member.record.status if member.record_path.exists() else None
    expected = {
        "leftover": status is None or status in FINISHED or item.path.name != STATE,
        "weights": status in FINISHED,
        "failed": status == "failed",
        "member": status in FINISHED,
    }
    return "" if expected[item.what] else f"it is {status or 'gone'} now"


def _delete(member: Member, item: Item) -> None:
    if item.what == "leftover" and item.path != member.path:
        delete(item.path)
    elif item.what == "weights":
        _delete_weights(member)
    else:
        # Without its record a folder is no member: killed from here on, the rest is a leftover.
        delete(member.record_path)
        delete(member.path)


def _delete_weights(member: Member) -> None:
    """The record first: a kill in between leaves a file that no record names, which is a leftover."""
    record = member.record
    files = {name: info for name, info in record.files.items() if name != WEIGHTS}
    changed = record.model_copy(update={"files": files, "removed": {**record.removed, WEIGHTS: now()}})
    path = member.path / WEIGHTS
    try:
        member.write_record(changed)
    except UserError:  # a disk without room for a record: the weights make room
        delete(path)
        member.write_record(changed)
    delete(path)


def _readable(pool: Pool, skipped: list[str]) -> list[Member]:
    members = []
    for member in pool.members:
        if link_above(member.path, itself=True):
            skipped.append(f"{member.path}: it is a link, or behind one")
        elif member.status == "damaged":
            skipped.append(f"{member.path}: its record cannot be read")
        elif member.is_held():
            skipped.append(f"{member.path}: a process is training it")
        else:
            members.append(member)
    return members


def _weights(member: Member, in_teams: set[str]) -> Item | None:
    path = member.path / WEIGHTS
    if WEIGHTS not in member.record.files or not path.is_file():
        return None
    accuracy = member.record.metrics.get("val", {}).get("accuracy")
    why = f"in {'a' if member.id in in_teams else 'no'} team: {member.record.spec.label}"
    return Item("weights", path, path.stat().st_size, member.id, why, accuracy)


def _whole(member: Member, what: What, why: str) -> Item:
    accuracy = member.record.metrics.get("val", {}).get("accuracy")
    why = f"{why}: {member.record.spec.label}" if what == "member" else why
    return Item(what, member.path, _bytes(member.path), member.id, why, accuracy)


def _leftovers(pool: Pool, members: Sequence[Member]) -> list[Item]:
    items = []
    for member in members:
        for path in sorted(member.path.rglob(".*.tmp")):
            items.append(Item("leftover", path, _bytes(path), member.id, "temporary file of a killed process"))
        state = member.path / STATE
        if member.record.status in FINISHED and state.is_file():
            items.append(Item("leftover", state, _bytes(state), member.id, "state of a finished member"))
        orphan = member.path / WEIGHTS
        if WEIGHTS in member.record.removed and orphan.is_file():
            items.append(Item("leftover", orphan, _bytes(orphan), member.id, "weights that were removed before"))
    there = pool.path / "members"
    entries = sorted(there.iterdir()) if there.is_dir() and not there.is_symlink() else []
    for folder in (entry for entry in entries if entry.is_dir() and not entry.is_symlink()):
        if not os.path.lexists(folder / "record.json") and not Member(folder).is_held():
            items.append(Item("leftover", folder, _bytes(folder), folder.name, "folder without a record"))
    own = [pool.path, *(pool.path / name for name in ("labels", "teams", "evaluations"))]
    old = time.time() - STALE_SECONDS
    for path in sorted(path for folder in own for path in folder.glob(".*.tmp") if not link_above(path)):
        with contextlib.suppress(FileNotFoundError):  # its writer was not dead after all
            if path.stat().st_mtime < old:
                items.append(Item("leftover", path, _bytes(path), None, "temporary file of a killed process"))
    return items


def _bytes(path: Path) -> int:
    """Size of a file, or of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for file in [path] if path.is_file() else path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if file.is_file():
                total += file.lstat().st_size
    return total
