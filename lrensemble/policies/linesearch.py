"""The LR at which a loss is lowest along an update: measured on fresh batches, fitted, with its uncertainty."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.policies.control import Line, Probing

COARSE = [4.0**k for k in range(-10, 4)]  # LRs of the first look
FINE = [2.0**k for k in range(-3, 4)]  # times the best of them
WIDENINGS = 4  # of the fine grid, when the lowest loss is at its end
CAP = 4.0  # times the loss before: what a step that explodes counts at most, so that one batch does not decide
SURE = 2.0  # standard errors by which the loss must fall
LEVEL = 0.95  # of the interval


@dataclass(frozen=True)
class LineFit:
    """Where the mean loss along an update is lowest.

    Attributes
    ----------
    lr : float or None
        The LR of the lowest loss; None: the loss does not fall by more than its uncertainty.
    low, high : float
        Its 95 % interval, from the spread between the draws.
    lrs, differences : list of float
        The grid, and the mean change of the loss at each.
    before : float
        The mean loss where the run stands.
    gain : float
        Of momentum, see `Line`.
    noise : float
        Between two computations of one loss, in units of that loss.
    """

    lr: float | None
    low: float
    high: float
    lrs: list[float]
    differences: list[float]
    before: float
    gain: float
    noise: float

    @property
    def is_doubtful(self) -> bool:
        """No estimate, or one that is uncertain by a factor of 2 either way."""
        return self.lr is None or not self.high < 4 * self.low

    def to_dict(self) -> dict[str, Any]:
        """Plain finite values."""
        values = asdict(self)
        return {**values, "high": self.high if math.isfinite(self.high) else None}


def line_search(probing: Probing, draws: int, first: int = 0) -> LineFit:
    """Measure along `draws` updates, numbered from `first` on, and fit the mean."""
    rough = capped(probing.along(COARSE, first))
    centre = COARSE[int(np.argmin(rough))]
    for _ in range(WIDENINGS):
        lrs = [centre * x for x in FINE]
        lines = [probing.along(lrs, first + draw) for draw in range(draws)]
        table = np.array([capped(line) for line in lines])
        best = int(np.argmin(table.mean(0)))
        if 0 < best < len(lrs) - 1:
            break
        centre = lrs[best]
    lr, low, high = fit(lrs, table)
    return LineFit(
        lr=lr,
        low=low,
        high=high,
        lrs=lrs,
        differences=table.mean(0).tolist(),
        before=float(np.mean([line.before for line in lines])),
        gain=float(np.mean([line.gain for line in lines])),
        noise=max(line.noise / abs(line.before) if line.before else line.noise for line in lines),
    )


def capped(line: Line) -> NDArray[np.float64]:
    """The changes of the loss (n,); what is not finite, or too much, counts as `CAP` times the loss."""
    most = CAP * abs(line.before) if math.isfinite(line.before) else 0.0
    return np.nan_to_num(np.minimum(line.differences, most), nan=most, posinf=most, neginf=most)


def fit(lrs: Sequence[float], differences: NDArray[np.float64]) -> tuple[float | None, float, float]:
    """The lowest point of the mean of (draws, LRs) by the parabola through three points around it, and its interval.

    The parabola is in the LR itself, so that it is exact where the loss is quadratic. None where the mean is not below
    zero by `SURE` standard errors, or lowest at an end of the grid.
    """
    draws, mean = len(differences), differences.mean(0)
    best = int(np.argmin(mean))
    error = differences[:, best].std(ddof=1) / math.sqrt(draws) if draws > 1 else 0.0
    if not 0 < best < len(lrs) - 1 or mean[best] > -SURE * error or mean[best] >= 0:
        return None, 0.0, math.inf
    from scipy.special import stdtrit  # it takes a while to import

    around = slice(best - 1, best + 2)
    x, y = np.asarray(lrs[around]), mean[around]
    lr = vertex(x, y)
    if draws < 2:
        return lr, 0.0, math.inf
    # The delta method in log LR: what a draw's deviation from the mean moves the lowest point by.
    slope = np.array([vertex(x, y + step) - vertex(x, y - step) for step in np.eye(3) * 1e-6 * np.ptp(y)])
    moves = (differences[:, around] - y) @ (slope / (2e-6 * np.ptp(y))) / lr
    width = float(stdtrit(draws - 1, (1 + LEVEL) / 2)) * moves.std(ddof=1) / math.sqrt(draws)
    return lr, lr * math.exp(-min(width, 50.0)), lr * math.exp(min(width, 50.0))


def vertex(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Where the parabola through three points is lowest; the middle one has the lowest y."""
    slopes, middles = np.diff(y) / np.diff(x), (x[:-1] + x[1:]) / 2
    return float(middles[0] + np.diff(middles)[0] * -slopes[0] / (slopes[1] - slopes[0]))


def steepest(lrs: Sequence[float], losses: Sequence[float], smoothing: float = 0.9) -> float | None:
    """The LR of a range test (Smith 2017) at which the smoothed loss falls fastest per log LR; None: it never falls."""
    smooth: list[float] = []
    mean = 0.0
    for i, loss in enumerate(losses):
        mean = smoothing * mean + (1 - smoothing) * loss
        value = mean / (1 - smoothing ** (i + 1))
        if not math.isfinite(value) or (smooth and value > 4 * min(smooth)):
            break
        smooth.append(value)
    falls = [b - a for a, b in itertools.pairwise(smooth)]  # the LRs are evenly spaced in their logarithm
    return lrs[int(np.argmin(falls))] if falls and min(falls) < 0 else None
