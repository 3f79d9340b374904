"""The LR at which a loss is lowest along an update: measured on fresh batches, fitted, with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.policies.control import Line, Probing

COARSE = range(-20, 8, 4)  # LRs of the first look, as powers of 2
REACH = 2  # powers of 2 to both sides of the best of them
MOST_LOOKS = 12  # at a window that moves while the lowest loss is at its end, and at more draws
ROUNDING = 1e-6  # of the loss: by less it does not fall
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
    guess : float or None
        The LR of the lowest mean loss, however uncertain; None: the mean falls nowhere.
    draws : int
        Pairs of batches that were measured.
    lrs, differences : list of float
        The grid, and the mean change of the loss at each.
    before : float
        The loss of a batch where the run stands.
    gain : float
        Of momentum, see `Line`.
    noise : float
        Between two computations of one loss, in units of that loss.
    """

    lr: float | None
    low: float
    high: float
    guess: float | None
    draws: int
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


def line_search(probing: Probing, draws: int, first: int = 0, most: int = 0) -> LineFit:
    """Measure along `draws` updates, numbered from `first` on, and fit the mean.

    The first of them that falls says where, while the result is doubtful the draws are doubled, to at most `most`.
    """
    curves: list[dict[int, float]] = []  # of every draw: the change of the loss at LR 2^k
    while True:
        line = probing.along([2.0**k for k in COARSE], first + len(curves))
        curves.append(dict(zip(COARSE, capped(line).tolist(), strict=True)))
        rough = np.mean([list(curve.values()) for curve in curves], axis=0)
        if rough.min() < -ROUNDING * abs(line.before) or len(curves) >= max(draws, most):
            break
    centre = COARSE[int(np.argmin(rough))]
    wanted, draws = draws, len(curves)
    for _ in range(MOST_LOOKS):
        window = list(range(centre - REACH, centre + REACH + 1))
        for draw in range(draws):
            if draw == len(curves):
                curves.append({})
            if missing := [k for k in window if k not in curves[draw]]:
                line = probing.along([2.0**k for k in missing], first + draw)
                curves[draw] |= dict(zip(missing, capped(line).tolist(), strict=True))
        table = np.array([[curve[k] for k in window] for curve in curves])
        found = _fitted([2.0**k for k in window], table, line)
        best = int(np.argmin(table.mean(0)))
        if best in (0, 2 * REACH) and window[best] > COARSE[0]:  # below it are roundings
            centre = window[best]
        elif draws < wanted:
            draws = wanted
        elif found.is_doubtful and draws < most:
            draws = min(2 * draws, most)
        else:
            break
    return found


def _fitted(lrs: list[float], table: NDArray[np.float64], line: Line) -> LineFit:
    mean, (lr, low, high) = table.mean(0), fit(lrs, table)
    return LineFit(
        lr=lr,
        low=low,
        high=high,
        guess=fit(lrs, mean[None])[0],
        draws=len(table),
        lrs=lrs,
        differences=mean.tolist(),
        before=line.before,
        gain=line.gain,
        noise=line.noise / abs(line.before) if line.before else line.noise,
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
