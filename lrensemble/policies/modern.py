"""Schedules that came after LRBench's: OneCycle, warm-up-stable-decay, Knee, the LR range test."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.policies.registry import LR, Parameter, Steps, register
from lrensemble.policies.units import Length

PEAK = Parameter("k0", "LR at the peak")
BUDGET = Parameter("l", "where it ends", kind="length", low_open=True, default=Length(100.0, "%"))


def _between(shape: str, a: float, b: float, x: Steps) -> Steps:
    """From a to b while x goes from 0 to 1."""
    if shape == "cos":
        return b + (a - b) / 2 * (1 + np.cos(math.pi * x))
    return a * (1 - x) + b * x  # exactly b at the end


@register(
    "ONECYCLE",
    "LR = k0/div up to k0 in the first `up` of l, then down to k0/div/final; three phases: down to k0/div first",
    "Smith 2018; torch OneCycleLR",
    PEAK,
    BUDGET,
    Parameter("up", "share of l that the rise takes", high=1.0, low_open=True, default=0.3),
    Parameter("div", "k0 / LR at the start", low=1.0, default=25.0),
    Parameter("final", "LR at the start / LR at the end", low=1.0, default=1e4),
    Parameter("phases", "2, or 3: a fall as long as the rise, then the rest", low=2.0, high=3.0, default=2.0),
    Parameter("shape", "of rise and fall", kind="word", words=("cos", "linear"), default="cos"),
)
def onecycle(t: Steps, k0: float, l: float, up: float, div: float, final: float, phases: float, shape: str) -> Steps:  # noqa: E741
    """As torch: the phases end at step up*l - 1, [2*up*l - 2,] l - 1, and the LR stays at its end after that."""
    start = k0 / div
    places = [0.0, up * l - 1, l - 1] if phases < 3 else [0.0, up * l - 1, 2 * up * l - 2, l - 1]
    values = [start, k0, start / final] if phases < 3 else [start, k0, start, start / final]
    result = np.full(t.shape, values[-1])
    segments = zip(itertools.pairwise(places), itertools.pairwise(values), strict=True)
    for (begin, end), (a, b) in reversed([segment for segment in segments if segment[0][1] > segment[0][0]]):
        inside = t <= end
        result[inside] = _between(shape, a, b, np.maximum(t[inside] - begin, 0.0) / (end - begin))
    return result


def _fits(function: str) -> Callable[[dict[str, Any]], None]:
    def check(values: dict[str, Any]) -> None:
        parts = [values[name] for name in ("warmup", "decay", "hold") if name in values]
        total = values["l"]
        if {part.unit for part in parts} == {total.unit} and sum(part.value for part in parts) > total.value * (
            1 + 1e-9
        ):
            shown = " + ".join(str(part) for part in parts)
            raise UserError(f"{function}: {shown} is longer than l = {total}")

    return check


WARMUP = Parameter("warmup", "linear rise from 0", kind="length", default=Length(5.0, "%"))
END = Parameter("k1", "LR at the end", default=0.0)


@register(
    "WSD",
    "LR = linear warm-up, k0, then down to k1 over the last `decay` of l",
    "Hu et al. 2024 (MiniCPM); 1-sqrt: Hägele et al. 2024",
    PEAK,
    WARMUP,
    Parameter("decay", "how long the fall takes", kind="length", low_open=True, default=Length(20.0, "%")),
    BUDGET,
    END,
    Parameter("shape", "of the fall", kind="word", words=("linear", "cos", "sqrt"), default="linear"),
    check=_fits("WSD"),
)
def wsd(t: Steps, k0: float, warmup: float, decay: float, l: float, k1: float, shape: str) -> Steps:  # noqa: E741
    falls: dict[str, LR] = {
        "linear": lambda x: 1 - x,
        "cos": lambda x: 0.5 * (1 + np.cos(math.pi * x)),
        "sqrt": lambda x: 1 - np.sqrt(x),
    }
    return _rise_hold_fall(t, k0, k1, warmup, max(l - decay, warmup), l, falls[shape])


@register(
    "KNEE",
    "LR = linear warm-up, k0 until warmup + hold, then linearly to k1 at l",
    "Iyer et al. 2023 (Wide-minima density hypothesis)",
    PEAK,
    WARMUP,
    Parameter("hold", "how long it explores at the peak", kind="length", default=Length(50.0, "%")),
    BUDGET,
    END,
    check=_fits("KNEE"),
)
def knee(t: Steps, k0: float, warmup: float, hold: float, l: float, k1: float) -> Steps:  # noqa: E741
    return _rise_hold_fall(t, k0, k1, warmup, warmup + hold, l, lambda x: 1 - x)


def _rise_hold_fall(t: Steps, k0: float, k1: float, warmup: float, knee: float, end: float, fall: LR) -> Steps:
    falling = k1 + (k0 - k1) * fall(np.clip((t - knee) / max(end - knee, 1e-9), 0.0, 1.0))
    rising = k0 * t / max(warmup, 1e-9)
    return np.where(t < warmup, rising, np.where(t < knee, k0, falling))


@register(
    "RANGE",
    "LR = k0 * (1 + rate * t / l), in steps of l with shape=stairs; from k0 to k1 in l with shape=exp",
    "Smith 2017, LR range test; DeepSpeed LRRangeTest",
    Parameter("k0", "LR at the start", low_open=True, example="1e-05"),
    Parameter("l", "time of one unit of the rate (or of the whole test)", "length", low_open=True, example="1e"),
    Parameter("rate", "growth per l", default=1.0),
    Parameter("k1", "LR at the end (shape=exp), and the ceiling", low_open=True, default=10.0),
    Parameter("shape", "how it grows", kind="word", words=("linear", "stairs", "exp"), default="linear"),
)
def range_test(t: Steps, k0: float, l: float, rate: float, k1: float, shape: str) -> Steps:  # noqa: E741
    if shape == "exp":
        grown = k0 * np.exp(math.log(k1 / k0) * np.minimum(t / l, 1.0))
    else:
        grown = k0 * (1 + rate * (np.floor(t / l) if shape == "stairs" else t / l))
    return np.minimum(grown, max(k0, k1))
