"""How a policy stands other LRs: runs of one task whose policies differ by a factor (LRBench's base-LR scaling)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lrensemble.policies import Policy
from lrensemble.recommend.records import Run

GRID = 257  # points of the budget at which two curves are compared
WITHIN = 10.0  # LRBench scales by 0.1 to 10


@dataclass(frozen=True)
class Robustness:
    """Validation accuracy of a policy's curve over the LR factors that were trained, its own included.

    Attributes
    ----------
    factors : of the policy's LR, ascending; within a factor of `WITHIN`
    mean, worst : accuracy over the factors; a diverged run counts as chance, 1 / classes
    """

    factors: tuple[float, ...]
    mean: float
    worst: float


def split(text: str, steps_per_epoch: int, total_steps: int) -> tuple[bytes, float] | None:
    """A policy's shape (equal for equal curves up to a factor) and its peak LR; None where there is none."""
    policy = Policy.parse(text).bind(steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    lr = policy(np.linspace(0, max(total_steps - 1, 1), GRID).round())
    peak = float(lr.max())
    return (np.round(lr / peak, 6).tobytes(), peak) if peak > 0 else None


def robustness(runs: Iterable[Run], steps_per_epoch: int, total_steps: int) -> dict[str, Robustness]:
    """Of every policy that was trained with two or more factors; by its text."""
    accuracies: dict[bytes, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    parts: dict[str, tuple[bytes, float]] = {}
    for run in runs:
        if run.policy not in parts:
            found = split(run.policy, steps_per_epoch, total_steps)
            if found is None:
                continue
            parts[run.policy] = found
        shape, peak = parts[run.policy]
        if run.accuracy is not None:
            accuracies[shape][_key(peak)].append(run.accuracy)
        elif run.status == "diverged":
            accuracies[shape][_key(peak)].append(1 / run.classes)
    return {
        text: one
        for text, (shape, peak) in parts.items()
        if (one := _over_factors(accuracies[shape], peak)) is not None
    }


def _over_factors(accuracies: Mapping[float, list[float]], peak: float) -> Robustness | None:
    own, slack = _key(peak), 1 + 1e-9
    near = {p: values for p, values in accuracies.items() if max(p / own, own / p) <= WITHIN * slack}
    if len(near) < 2:
        return None
    means = [float(np.mean(near[p])) for p in sorted(near)]
    factors = tuple(float(f"{p / peak:.3g}") for p in sorted(near))
    return Robustness(factors, float(np.mean(means)), min(means))


def _key(peak: float) -> float:
    """Peaks that are equal up to rounding are one."""
    return float(f"{peak:.6g}")
