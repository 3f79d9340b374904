"""Policies as curves: few enough points to draw, no peak or jump lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrensemble.policies import Policy

DENSE = 2**20  # steps that are evaluated at most, per policy
BUCKETS = 1000  # more than the pixels of a plot; each keeps at most POINTS points
POINTS = 4  # the lowest, the highest, and both sides of the largest change
BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, eq=False)
class Curve:
    """The LR of one policy over a budget: ascending optimizer steps, and the LR at each of them."""

    label: str
    steps: NDArray[np.int64]
    lr: NDArray[np.float64]
    steps_per_epoch: int = 1

    @property
    def epochs(self) -> NDArray[np.float64]:
        return self.steps / self.steps_per_epoch

    def columns(self, width: int) -> NDArray[np.float64]:
        """The highest LR within each of `width` equal stretches of the budget (at most one per step)."""
        total = int(self.steps[-1]) + 1
        width = min(width, total)
        column = self.steps * width // total
        # Every column holds a step of its own unless the points are sparser than the columns.
        highest = np.full(width, -np.inf)
        np.maximum.at(highest, column, self.lr)
        filled = np.maximum.accumulate(np.where(np.isfinite(highest), np.arange(width), 0))
        return highest[filled]


def policy_curves(
    policies: Iterable[Policy], steps_per_epoch: int, total_steps: int, *, buckets: int = BUCKETS
) -> list[Curve]:
    """Return one curve per policy, from step 0 to the last step of the budget, labelled with the policy's text.

    A budget of up to ``buckets * POINTS`` steps is kept whole. A longer one is cut into `buckets` stretches, of
    which the lowest, the highest and the two sides of the largest change are kept, in the order of the steps.
    """
    steps = _dense_steps(total_steps)
    curves = []
    for policy in policies:
        lr = policy.bind(steps_per_epoch=steps_per_epoch, total_steps=total_steps)(steps)
        kept = _kept(lr, buckets)
        curves.append(Curve(str(policy), steps[kept], lr[kept], steps_per_epoch))
    return curves


def _dense_steps(total_steps: int) -> NDArray[np.int64]:
    """Every step, or `DENSE` of them: one in each of equal stretches, unevenly, so that no period falls in step."""
    if total_steps <= DENSE:
        return np.arange(total_steps)
    cell = np.arange(DENSE)
    golden = (5**0.5 - 1) / 2
    steps = ((cell + cell * golden % 1) * (total_steps / DENSE)).astype(np.int64)
    steps[0], steps[-1] = 0, total_steps - 1
    return np.unique(steps)


def _kept(lr: NDArray[np.float64], buckets: int) -> NDArray[np.int64]:
    """Indices of the points that draw the same picture as all of them."""
    n = len(lr)
    if n <= buckets * POINTS:
        return np.arange(n)
    edges = np.linspace(0, n, buckets + 1).astype(np.int64)
    change = np.abs(np.diff(lr, append=lr[-1]))
    kept = {0, n - 1}
    for low, high in itertools.pairwise(edges):
        jump = int(low + change[low:high].argmax())
        kept |= {int(low + lr[low:high].argmin()), int(low + lr[low:high].argmax()), jump, min(jump + 1, n - 1)}
    return np.array(sorted(kept))


def sparkline(values: ArrayLike, width: int = 60) -> str:
    """Return `values` (evenly spaced, >= 0) as block characters, scaled from 0 to their maximum.

    At most `width` of them; fewer are stretched.

    >>> sparkline([0, 1, 2, 4], width=4)
    '▁▂▄█'
    """
    heights: NDArray[Any] = np.asarray(values, dtype=float)
    columns = heights[np.arange(width) * len(heights) // width]
    top = columns.max()
    levels = np.rint(columns / top * (len(BLOCKS) - 1)).astype(int) if top > 0 else np.zeros(width, dtype=int)
    return "".join(BLOCKS[level] for level in levels)
