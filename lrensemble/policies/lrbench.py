"""The functions of LRBench: 34 names, closed forms (Wu et al. 2019, Table I; LRBench's LRfunctions.py).

LR(t) = |k0 - k1| * g(t) + min(k0, k1), where t is the optimizer step (the first one is t = 0). The definitions below
are g, made for `math` (one step) or NumPy (arrays). Where the paper and LRBench's code differ, or the code has a
defect, we do this:

- COS: `l` is half a period (code), not a period (paper): the same meaning as in TRI and SIN, and COS equals torch's
  ``CosineAnnealingLR(T_max=l)``.
- POLY: k0 is the start and k1 the end (paper), the other way round in the code; it stays at its end after `l`, where
  the code turns complex.
- Restarts (RSW, SINRSW, COSRSW): the peak at t = 0, l, 2l, ..., where the code returns the floor for that one step.
- NSTEP: a pure function of t; the code keeps its position in a function attribute.
- k0 > k1 in the cyclic and restart families: the paper's absolute value and minimum, so that the wave runs between the
  two whatever their order. The code then turns the wave upside down; `Policy.from_lrbench` reproduces that.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lrensemble.policies.registry import Parameter, register
from lrensemble.policies.units import Length

PAPER = "Wu et al. 2019, Table I"
CODE = "LRBench, LRfunctions.py"
LRBENCH: list[str] = []  # the 34 names, filled below

START = Parameter("k0", "LR at the start")
FLOOR = Parameter("k1", "LR that it decays to", default=0.0)
K0 = Parameter("k0", "one end of the LR range")
K1 = Parameter("k1", "the other end of the LR range", default=0.0)
GAMMA = Parameter("gamma", "factor", high=1.0, low_open=True)
RATE = Parameter("gamma", "how fast it decays")
POWER = Parameter("p", "power")
HALF = Parameter("l", "half a period", kind="length", low_open=True)
CYCLE = Parameter("l", "steps between two restarts", kind="length", low_open=True)
PER = Parameter("per", "the time that one power of gamma takes", kind="length", low_open=True, default=Length(1.0))


def wave(name: str, formula: str, *parameters: Parameter, source: str = PAPER) -> Callable[..., Any]:
    """Register a g together with the range k0, k1.

    The decorated function gets the module m, |k0 - k1|, min(k0, k1) and the shape parameters, and returns the LR as a
    function of the step: one Python call deep, because loops call it in every step.
    """

    def add(shape: Callable[..., Callable[[Any], Any]]) -> Callable[..., Any]:
        def make(m: Any, k0: float, k1: float = 0.0, **parameters: Any) -> Callable[[Any], Any]:
            return shape(m, abs(k0 - k1), min(k0, k1), **parameters)

        LRBENCH.append(name)
        formula_of = "LR = k0" if name == "FIX" else f"g = {formula}"
        return register(name, formula_of, source, *parameters)(make)

    return add


def powers(m: Any, base: float) -> Callable[[Any], Any]:
    """base^n for n >= 0. NumPy is slow where the result underflows: there it stays at the last normal number."""
    if m is math or base >= 1:
        return lambda n: base**n
    last = 700 / -math.log(base)  # base^last is e^-700
    return lambda n: base ** np.minimum(n, last)


# Decaying


@wave("FIX", "k0", START)
def fix(m: Any, span: float, low: float) -> Callable[[Any], Any]:
    if m is math:
        return lambda t: span
    return lambda t: np.full(t.shape, span)


@wave(
    "STEP",
    "gamma^floor(t / l)",
    START,
    GAMMA,
    Parameter("l", "steps between two drops", kind="length", low_open=True),
    FLOOR,
)
def step(m: Any, span: float, low: float, gamma: float, l: float) -> Callable[[Any], Any]:  # noqa: E741
    floor, power = m.floor, powers(m, gamma)
    if m is math:
        return lambda t: span * gamma ** floor(t / l) + low
    return lambda t: span * power(floor(t / l)) + low


@wave("NSTEP", "gamma^(number of l_j <= t)", START, GAMMA, Parameter("l", "when it drops", kind="lengths"), FLOOR)
def nstep(m: Any, span: float, low: float, gamma: float, l: tuple[float, ...]) -> Callable[[Any], Any]:  # noqa: E741
    milestones = sorted(l)  # of mixed units, in the order that they have when bound
    values = [span * gamma**i + low for i in range(len(milestones) + 1)]
    if m is math:
        count = bisect.bisect_right
        return lambda t: values[count(milestones, t)]
    table = np.array(values)
    return lambda t: table[np.searchsorted(milestones, t, side="right")]


@wave("EXP", "gamma^(t / per)", START, GAMMA, PER, FLOOR)
def exp(m: Any, span: float, low: float, gamma: float, per: float) -> Callable[[Any], Any]:
    power = powers(m, gamma)
    if m is math:
        return lambda t: span * gamma ** (t / per) + low
    return lambda t: span * power(t / per) + low


@wave("INV", "(1 + gamma t / per)^-p", START, RATE, POWER, PER, FLOOR)
def inv(m: Any, span: float, low: float, gamma: float, p: float, per: float) -> Callable[[Any], Any]:
    rate, power = gamma / per, -p
    return lambda t: span * (1 + rate * t) ** power + low


@wave("POLY", "(1 - t / l)^p, 0 after l", START, POWER, Parameter("l", "where it ends", "length", low_open=True), FLOOR)
def poly(m: Any, span: float, low: float, p: float, l: float) -> Callable[[Any], Any]:  # noqa: E741
    if m is math:
        return lambda t: span * (1 - t / l) ** p + low if t < l else low
    return lambda t: span * np.where(t < l, np.maximum(1 - t / l, 0) ** p, 0.0) + low


@wave(
    "SIG",
    "1 / (1 + exp(-gamma (t - l) / per)), falling for gamma < 0",
    START,
    Parameter("gamma", "how steep it is", low=-math.inf),
    Parameter("l", "where it is half", kind="length"),
    PER,
    FLOOR,
    source=CODE,
)
def sig(m: Any, span: float, low: float, gamma: float, l: float, per: float) -> Callable[[Any], Any]:  # noqa: E741
    # exp(-|x|) never overflows, and keeps the relative accuracy of both tails.
    exp = m.exp

    def one(t: Any) -> Any:
        x = gamma * ((t - l) / per)
        if x >= 0:
            return span / (1 + exp(-x)) + low
        small = exp(x)
        return span * small / (1 + small) + low

    def many(t: Any) -> Any:
        x = gamma * ((t - l) / per)
        small = exp(np.maximum(-abs(x), -700.0))
        return span * np.where(x >= 0, 1.0, small) / (1 + small) + low

    return one if m is math else many


# Cyclic, of the position x in the wave: 0 up to 2 half periods, reduced before anything else, so that late steps are as
# exact as early ones. A D in front starts half a period later (at the peak), UP starts the cosine at the floor; 2
# halves the amplitude after every period, EXP multiplies it with a power of gamma.


def tri(m: Any) -> Callable[[Any], Any]:
    return lambda x: 1 - abs(x - 1)  # (2/pi) |asin(sin(pi x / 2))| without its rounding


def sin(m: Any) -> Callable[[Any], Any]:
    sin, half_pi = m.sin, math.pi / 2
    return lambda x: abs(sin(half_pi * x))


def cos(m: Any) -> Callable[[Any], Any]:
    cos, pi = m.cos, math.pi
    return lambda x: 0.5 * (1 + cos(pi * x))


def _register_cyclic(name: str, formula: str, shape: Callable[..., Any], ahead: float, halving_ahead: float) -> None:
    """The plain wave and its 2 and EXP forms; `ahead` of the step by so many half periods."""
    source = PAPER if name in ("TRI", "SIN") else CODE

    @wave(name, formula, K0, K1, HALF, source=PAPER if name == "COS" else source)
    def plain(m: Any, span: float, low: float, l: float) -> Callable[[Any], Any]:  # noqa: E741
        g, shift, period = shape(m), ahead * l, 2 * l
        return lambda t: span * g((t + shift) % period / l) + low

    moment = "(t + l)" if halving_ahead else "t"

    @wave(f"{name}2", f"{name} / 2^floor({moment} / 2l)", K0, K1, HALF, source=source)
    def halving(m: Any, span: float, low: float, l: float) -> Callable[[Any], Any]:  # noqa: E741
        g, shift, period, later = shape(m), ahead * l, 2 * l, halving_ahead * l
        floor, half = m.floor, powers(m, 0.5)
        return lambda t: span * g((t + shift) % period / l) * half(floor((t + later) / period)) + low

    @wave(f"{name}EXP", f"{name} * gamma^(t / per)", K0, K1, HALF, GAMMA, PER, source=source)
    def decaying(m: Any, span: float, low: float, l: float, gamma: float, per: float) -> Callable[[Any], Any]:  # noqa: E741
        g, shift, period, power = shape(m), ahead * l, 2 * l, powers(m, gamma)
        return lambda t: span * g((t + shift) % period / l) * power(t / per) + low


_register_cyclic("TRI", "(2/pi) |asin(sin(pi t / 2l))|", tri, 0, 0)
_register_cyclic("DTRI", "(2/pi) |asin(sin(pi (t + l) / 2l))|", tri, 1, 1)
_register_cyclic("SIN", "|sin(pi t / 2l)|", sin, 0, 0)
_register_cyclic("DSIN", "|sin(pi (t + l) / 2l)|", sin, 1, 1)
_register_cyclic("COS", "(1 + cos(pi t / l)) / 2", cos, 0, 1)
_register_cyclic("UPCOS", "(1 + cos(pi (t / l + 1))) / 2", cos, 1, 0)


# Restarts, of u that falls from 1 to 0 within every l and starts again at 1.


def rsw(m: Any) -> Callable[[Any], Any]:
    return lambda u: u


def sinrsw(m: Any) -> Callable[[Any], Any]:
    sin, half_pi = m.sin, math.pi / 2
    return lambda u: sin(half_pi * u)


def cosrsw(m: Any) -> Callable[[Any], Any]:
    cos, pi = m.cos, math.pi
    return lambda u: 0.5 * (1 - cos(pi * u))


def _register_restarts(name: str, formula: str, shape: Callable[..., Any]) -> None:
    @wave(name, f"{formula}, u = 1 - (t mod l) / l", K0, K1, CYCLE, source=CODE)
    def plain(m: Any, span: float, low: float, l: float) -> Callable[[Any], Any]:  # noqa: E741
        g = shape(m)
        return lambda t: span * g(1 - t % l / l) + low

    @wave(f"{name}2", f"{name} / 2^floor(t / l)", K0, K1, CYCLE, source=CODE)
    def halving(m: Any, span: float, low: float, l: float) -> Callable[[Any], Any]:  # noqa: E741
        g, floor, half = shape(m), m.floor, powers(m, 0.5)
        return lambda t: span * g(1 - t % l / l) * half(floor(t / l)) + low

    @wave(f"{name}EXP", f"{name} * gamma^(t / per)", K0, K1, CYCLE, GAMMA, PER, source=CODE)
    def decaying(m: Any, span: float, low: float, l: float, gamma: float, per: float) -> Callable[[Any], Any]:  # noqa: E741
        g, power = shape(m), powers(m, gamma)
        return lambda t: span * g(1 - t % l / l) * power(t / per) + low


_register_restarts("RSW", "u", rsw)
_register_restarts("SINRSW", "sin(pi u / 2)", sinrsw)
_register_restarts("COSRSW", "(1 - cos(pi u)) / 2", cosrsw)
