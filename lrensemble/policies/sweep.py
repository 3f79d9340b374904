"""The sweep of a range test: the LR grows until the loss explodes. And which LRs its losses suggest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError
from lrensemble.policies.control import Following, Probing, register_control
from lrensemble.policies.policy import Policy
from lrensemble.policies.registry import Parameter

LOW, HIGH = 1e-5, 10.0
SPAN = 0.05  # of the sweep: a neighbour so far away has a weight of 1 / e in the mean of a loss and its neighbours
CALM = 0.1  # of the sweep: up to there the loss is taken to be where it began
GONE = 4.0  # times the lowest loss, or above it by so many standard deviations of the calm: the sweep is over
LOST = 3  # losses in a row that are not finite: so are the weights
FALLEN, RISEN = 0.25, 0.1  # of the way down: between the LRs where the loss has fallen and risen so far, it trains
SURE = 6.0  # standard errors of the mean that the loss has to fall by; of pure noise one sweep in 100 does
FEWEST = 10  # steps of a sweep
ROUNDING = 1e-7  # of a loss in float32
HUGE = 1e100  # squares and sums of it are finite


@register_control(
    "SWEEP",
    "LR from k0 to k1 in l, 0 after the loss has exploded",
    "Smith 2017, section 3.3 (LR range test)",
    Parameter("k0", "LR at the start", low_open=True, default=LOW),
    Parameter("k1", "LR at the end", low_open=True, default=HIGH),
    Parameter("l", "time of the sweep", "length", low_open=True, example="100%"),
    Parameter("shape", "how the LR grows", "word", words=("exp", "linear"), default="exp"),
)
class LRSweep(Following):
    """Follows RANGE and keeps the losses: that of step t is what the step before it led to, with its LR."""

    looks = 1

    def __init__(self, k0: float, k1: float, l: Any, shape: str) -> None:  # noqa: E741
        self.steps = math.ceil(getattr(l, "value", l))
        if not (k0 < k1 and self.steps >= FEWEST):
            raise UserError(
                f"a sweep from LR {k0:g} to {k1:g} in {self.steps} steps is not possible: it goes upwards, in at least "
                f"{FEWEST} steps"
            )
        super().__init__(Policy.make("RANGE", k0=k0, k1=k1, l=self.steps, rate=k1 / k0 - 1, shape=shape))
        self.calm = max(FEWEST // 2, int(CALM * self.steps))
        self.weight = 1 - math.exp(-1 / (SPAN * self.steps))
        self.known = {"losses": [], "mean": 0.0, "lowest": math.inf, "exploded": False}

    def lr(self, step: int) -> float:
        return 0.0 if self.is_over else self.policy(step)

    def observe(self, step: int, loss: float | None, probing: Probing) -> None:
        if loss is None:
            raise UserError("SWEEP follows the loss: say that of every step, tuned.step(loss)")
        self.see(loss)

    def see(self, loss: float) -> None:
        """Take the loss of the next step."""
        now, losses = self.known, self.known["losses"]
        losses.append(loss := float(loss))
        if not math.isfinite(loss):
            now["exploded"] = len(losses) >= LOST and not any(map(math.isfinite, losses[-LOST:]))
            return
        now["mean"] += self.weight * (loss - now["mean"])
        if len(losses) > self.calm:
            mean = now["mean"] / (1 - (1 - self.weight) ** len(losses))
            now["lowest"] = min(now["lowest"], mean)
            now["exploded"] = mean > ceiling(now["lowest"], losses[: self.calm])

    @property
    def is_over(self) -> bool:
        """Whether every LR was tried, or the loss has exploded."""
        return bool(self.known["exploded"]) or len(self.known["losses"]) > self.steps

    @property
    def curve(self) -> SweepCurve:
        """What was seen so far."""
        return sweep_curve(self.policy(np.arange(self.steps)), self.known["losses"])


def ceiling(lowest: float, calm: Sequence[float]) -> float:
    """The loss above which a sweep is over, that began with the losses of `calm`."""
    began = [loss for loss in calm if math.isfinite(loss)] or [lowest]
    return lowest + max((GONE - 1) * abs(lowest), float(np.mean(began)) - lowest, GONE * float(np.std(began)))


@dataclass(frozen=True)
class SweepCurve:
    """Ascending LRs (n,), the loss that each led to, and its mean with its neighbours; what is not finite is left out.

    Attributes
    ----------
    suggestions : dict
        ``middle``: between `low` and `high`, on a logarithmic scale. ``steepest``: where the mean loss falls fastest
        per log LR. ``valley``: the middle of its longest fall (after fastai). ``minimum / 10``: a tenth of where it is
        lowest. Empty where it does not fall by more than its noise.
    low, high : float
        Where the loss has fallen a quarter of its way, and where it has risen again by a tenth of it.
    reason : str
        Why there is no suggestion.
    """

    lr: list[float]
    loss: list[float]
    smooth: list[float]
    suggestions: dict[str, float]
    low: float
    high: float
    reason: str = ""


def sweep_curve(lrs: NDArray[np.float64], losses: Sequence[float]) -> SweepCurve:
    """Read a sweep: the LRs (n,) that it was to try; the losses (m + 1,) before the first of m steps and after each."""
    loss = np.array(losses[1:], dtype=float)
    seen = np.isfinite(loss)
    lr, loss, first = lrs[: len(loss)][seen], loss[seen], float(lrs[0])
    if len(loss) < FEWEST:
        reason = f"the loss is finite after {len(loss)} steps only, {FEWEST} are needed: begin at a lower LR"
        return SweepCurve(lr.tolist(), loss.tolist(), loss.tolist(), {}, first, 10 * first, reason)
    calm = [value for value in losses[: max(FEWEST // 2, int(CALM * len(lrs)))] if math.isfinite(value)]
    span = SPAN * len(lrs)
    # An explosion would reach far back into means of both sides.
    before = _smoothed(np.clip(loss, -HUGE, HUGE), span, ahead=False)
    capped = np.minimum(loss, ceiling(float(before.min()), calm))
    smooth = _smoothed(capped, span)
    bottom = int(np.argmin(smooth))
    falling = slice(0, bottom + 1)
    start, lowest = float(smooth[falling].max()), float(smooth[bottom])
    low = float(lr[np.argmax(smooth[falling] <= start - FALLEN * (start - lowest))])
    risen = np.flatnonzero(smooth[bottom:] > lowest + RISEN * (start - lowest))
    high = float(lr[bottom + risen[0] if len(risen) else -1])
    noise = float(np.std((capped - smooth)[: max(bottom, len(calm))])) / math.sqrt(max(1, 4 * span))
    noise += ROUNDING * abs(start)
    suggestions, reason = {}, ""
    if bottom < 2:
        reason = f"the loss rises from the first LR on: begin below {lr[0]:.3g}"
    elif start - lowest <= SURE * noise:
        reason = (
            f"the loss does not fall by more than its noise ({start:.4g} to {lowest:.4g}, standard error "
            f"{noise:.2g}): more steps, or LRs from another range than {lr[0]:.3g} to {lr[-1]:.3g}"
        )
    else:
        slope = np.gradient(smooth[falling], np.log(lr[falling]))
        suggestions = {
            "middle": math.sqrt(low * high),
            "steepest": float(lr[np.argmin(slope)]),
            "valley": float(lr[_middle_of_fall(smooth[falling])]),
            "minimum / 10": float(lr[bottom]) / 10,
        }
    return SweepCurve(lr.tolist(), loss.tolist(), smooth.tolist(), suggestions, low, max(high, 2 * low), reason)


def _smoothed(loss: NDArray[np.float64], span: float, ahead: bool = True) -> NDArray[np.float64]:
    """The mean of every loss with those on both sides, which unlike a running mean does not lag behind the LR.

    Of independent losses with weights exp(-steps / span) it has the variance of the mean of 4 `span` of them. Not
    `ahead`: only with those before.
    """
    steps = np.arange(1 - len(loss), len(loss))
    weights = np.exp(-np.abs(steps) / span) * (ahead | (steps >= 0))
    return np.convolve(loss, weights, "valid") / np.convolve(np.ones_like(loss), weights, "valid")


def _middle_of_fall(loss: NDArray[np.float64]) -> int:
    """The middle of the longest falling subsequence."""
    length, before = np.ones(len(loss), dtype=int), np.full(len(loss), -1)
    for i in range(1, len(loss)):
        higher = np.flatnonzero(loss[:i] > loss[i])
        if len(higher):
            before[i] = higher[np.argmax(length[higher])]
            length[i] = length[before[i]] + 1
    i = int(np.argmax(length))
    for _ in range(int(length[i]) // 2):
        i = int(before[i])
    return i


@dataclass(frozen=True)
class Suggestion:
    """The median of an LR over `n` sweeps, and its lowest and highest value."""

    lr: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class RangeTest:
    """Sweeps of one model, optimizer and data, and what they suggest together.

    Attributes
    ----------
    suggestions : dict of str to Suggestion
        By the names of `SweepCurve`; empty where less than half of the sweeps suggest anything, `reason` says why.
    low, high : the range of peak LRs, medians
    """

    curves: tuple[SweepCurve, ...]
    suggestions: dict[str, Suggestion]
    low: float
    high: float
    reason: str

    @classmethod
    def of(cls, curves: Sequence[SweepCurve]) -> RangeTest:
        sure = [curve for curve in curves if curve.suggestions]
        low, high = (_median([getattr(curve, end) for curve in curves]) for end in ("low", "high"))
        if 2 * len(sure) < len(curves):
            return cls(tuple(curves), {}, low, high, next(curve.reason for curve in curves if curve.reason))
        suggestions = {}
        for name in sure[0].suggestions:
            lrs = [curve.suggestions[name] for curve in sure]
            suggestions[name] = Suggestion(_median(lrs), min(lrs), max(lrs), len(lrs))
        return cls(tuple(curves), suggestions, low, high, "")

    @property
    def lr(self) -> float:
        """The suggested peak LR, `middle`; `UserError` where there is none."""
        if not self.suggestions:
            raise UserError(f"the range test suggests no LR: {self.reason}")
        return self.suggestions["middle"].lr


def _median(values: Sequence[float]) -> float:
    """Of an even number, the geometric mean of the two in the middle."""
    ordered, count = sorted(values), len(values)
    below, above = ordered[(count - 1) // 2], ordered[count // 2]
    return below if below == above else math.sqrt(below * above)
