"""LR and training curves of members, with as few points as a picture needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.policies import Policy
from lrensemble.pool import Member
from lrensemble.report.policy_curves import policy_curves

PANELS = 60  # policies that are drawn, the best first
BUCKETS = 40  # stretches of an LR curve, of up to four points each
LINES = 80  # training curves that are drawn, the team's members and the best first
POINTS = 120  # of a training curve


@dataclass(frozen=True)
class LRCurve:
    """The LR of one policy over a member's budget."""

    label: str
    members: list[int]  # numbers
    unit: str  # of x
    x: list[float]
    lr: list[float]


@dataclass(frozen=True)
class History:
    """What was logged while a member trained; None where it was not."""

    member: int
    unit: str  # of x: epochs or steps
    x: list[float]
    val_accuracy: list[float | None]
    val_loss: list[float | None]
    train_loss: list[float | None]


def lr_curves(members: list[tuple[int, Member]]) -> list[LRCurve]:
    """One curve for each policy and budget, in the order of its first member.

    A member without a policy shows the LR that it logged; one that logged none is left out.
    """
    found: dict[Any, LRCurve] = {}
    for number, member in members:
        curve = _policy_curve(number, member) or _logged_curve(number, member)
        if curve is None:
            continue
        key = (curve.label, curve.unit, tuple(curve.x), tuple(curve.lr))
        if key in found:
            found[key].members.append(number)
        else:
            found[key] = curve
    return list(found.values())


def peak_lr_of_lost(member: Member, train_rows: int) -> float | None:
    """The highest LR that a member without predictions was to have, or had; None where its record does not say."""
    training = member.record.spec.training
    try:
        curve = _policy_curve(0, member) or _logged_curve(0, member)
        if curve is None and training and train_rows:
            curve = _policy_curve(0, member, math.ceil(train_rows / training.batch_size))
    except UserError:  # a controller, which had no LR before it saw the training
        return None
    return max(curve.lr) if curve else None


def family_of(member: Member) -> str:
    """The function of its policy, ``COS`` of ``COS(k0=0.1, l=100%)``; empty for a member without one."""
    return (member.record.spec.policy or "").partition("(")[0].strip()


def _policy_curve(number: int, member: Member, per_epoch: int | None = None) -> LRCurve | None:
    """`per_epoch`: steps, where no history says how many."""
    spec, history = member.record.followed, read_history(member)
    if spec.policy is None or spec.training is None:
        return None
    first = history[0] if history else {}
    if first.get("epoch") and first.get("step"):
        per_epoch = max(1, int(first["step"] / first["epoch"]))
    if per_epoch is None:
        return None
    [curve] = policy_curves([Policy.parse(spec.policy)], per_epoch, spec.training.epochs * per_epoch, buckets=BUCKETS)
    return LRCurve(curve.label, [number], "epochs", curve.epochs.tolist(), curve.lr.tolist())


def _logged_curve(number: int, member: Member) -> LRCurve | None:
    unit, x, lines = _axis(read_history(member))
    rates = [line.get("lr") for line in lines]
    if not any(rate is not None for rate in rates):
        return None
    kept = [(a, rate) for a, rate in zip(x, rates, strict=True) if rate is not None]
    return LRCurve(member.record.spec.label, [number], unit, [a for a, _ in kept], [rate for _, rate in kept])


def histories(members: list[tuple[int, Member]]) -> list[History]:
    """Training curves of the members that have one."""
    curves = []
    for number, member in members:
        unit, x, lines = _axis(read_history(member))
        if lines:
            columns = {key: [line.get(key) for line in lines] for key in ("val_accuracy", "val_loss", "train_loss")}
            curves.append(History(number, unit, x, **columns))
    return curves


def read_history(member: Member) -> list[dict[str, Any]]:
    """The member's history; nothing where the file is gone or damaged, which the report says itself."""
    try:
        return [line for line in member.history() if isinstance(line, dict)]
    except UserError:
        return []


def _axis(lines: list[dict[str, Any]]) -> tuple[str, list[float], list[dict[str, Any]]]:
    """Unit, x, and the lines that are kept: at most `POINTS` of them, always the last."""
    if len(lines) > POINTS:
        kept = np.unique(np.linspace(0, len(lines) - 1, POINTS).round().astype(int))
        lines = [lines[i] for i in kept]
    for key in ("epoch", "step"):
        if lines and all(isinstance(line.get(key), int | float) for line in lines):
            return key + "s", [float(line[key]) for line in lines], lines
    return "evaluations", [float(i + 1) for i in range(len(lines))], lines
