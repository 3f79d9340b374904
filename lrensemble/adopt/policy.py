"""The LR policy of a run whose LRs are known from its log, or from what the user says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.adopt.beside import RunFacts
from lrensemble.adopt.names import LR, fact
from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies import Policy, parse_schedule
from lrensemble.policies.nearest import nearest_policies

SAME = 0.005  # mean difference, over the mean LR, up to which a short policy is said to be that of a log
FITTED = 1000  # places of the budget that are compared
MOST_POINTS = 50  # of a policy that is written down as it was


def policy_of(run: RunFacts, template: str | None) -> str | None:
    """The policy as text; None where nothing says it.

    In this order: the `template`, whose ``{names}`` are hyperparameters of the run; its hyperparameter ``policy``,
    where that is one of ours; the shortest policy that has the LRs of its log, or those as points.
    """
    if template is not None:
        return filled(template, run)
    text = fact(run.facts, "policy", "lr_policy")
    if isinstance(text, str) and "(" in text:
        try:
            return str(parse_schedule(text))
        except UserError:  # of another library's
            pass
    curve = _curve(run)
    return None if curve is None else str(_written(*curve))


def filled(template: str, run: RunFacts) -> str:
    """``COS(k0={lr}, l=100%)`` with the run's hyperparameters; `UserError` for one that it does not have."""

    def value(match: re.Match[str]) -> str:
        found = fact(run.facts, *(LR if match[1] == "lr" else (match[1],)))
        if found is None:
            raise UserError(f"--policy {template}: {run.name} has no {match[1]!r}: {did_you_mean(match[1], run.facts)}")
        return str(found)

    return str(parse_schedule(re.sub(r"\{([\w.]+)\}", value, template)))


def _curve(run: RunFacts) -> tuple[NDArray[np.float64], NDArray[np.float64], int] | None:
    """Steps (or epochs) from 0, the LR at each, and how many there are in all; None without two LRs of a log."""
    for unit in ("step", "epoch"):
        lines: list[Mapping[str, Any]] = [line for line in run.history if "lr" in line and unit in line]
        if len(lines) < 2 or not all(line["lr"] >= 0 for line in lines) or not any(line["lr"] for line in lines):
            continue
        at = np.array([float(line[unit]) for line in lines])
        if not (at >= 0).all() or (np.diff(at) <= 0).any():
            continue
        # Who counts from 1 writes down the LR of the step (or epoch) that has just been made.
        at = at - 1 if at[0] > 0 and not (at[0] < 1) else at
        total = max(int(at[-1]) + 1, run.steps or 0) if unit == "step" else int(at[-1]) + 1
        return at, np.array([float(line["lr"]) for line in lines]), total
    return None


def _written(at: NDArray[np.float64], lr: NDArray[np.float64], total: int) -> Policy:
    if (lr == lr[0]).all():
        return Policy.make("FIX", k0=float(lr[0]))
    if total >= 3:
        count = min(total, FITTED)
        places = np.arange(count) * total / count
        before = (
            (lr[1] - lr[0]) / (at[1] - at[0]) * (places - at[0])
        )  # until the first line: on the way of the first two
        values = np.interp(places, at, lr) + np.where(places < at[0], before, 0)
        families = nearest_policies(np.maximum(values, 0))
        if same := [near for near in families if near.error <= SAME and near.policy.function != "POINTS"]:
            return min(same, key=lambda near: (near.numbers, near.error)).policy
    kept = np.unique(np.linspace(0, len(at) - 1, min(len(at), MOST_POINTS)).round().astype(int))
    shares = [f"{100 * at[i] / total:.6g}%" for i in kept]
    return Policy.make("POINTS", at=shares, k=[float(f"{lr[i]:.6g}") for i in kept])
