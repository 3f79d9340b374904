"""The functions of LRBench: 34 names, closed forms (Wu et al. 2019, Table I; LRBench's LRfunctions.py).

LR(t) = |k0 - k1| * g(t) + min(k0, k1), where t is the optimizer step (the first one is t = 0). Where the paper and
LRBench's code differ, or the code has a defect, we do this:

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

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies.registry import FUNCTIONS, LR, Parameter, Shape, Steps, register
from lrensemble.policies.units import Length

PAPER = "Wu et al. 2019, Table I"
CODE = "LRBench, LRfunctions.py"
LRBENCH = ["FIX"]  # the 34 names, filled below

START = Parameter("k0", "LR at the start")
FLOOR = Parameter("k1", "LR that it decays to", default=0.0)
K0 = Parameter("k0", "one end of the LR range")
K1 = Parameter("k1", "the other end of the LR range", default=0.0, example="0.01")
DROP = Parameter("gamma", "factor", high=1.0, low_open=True, example="0.3")
GAMMA = Parameter("gamma", "factor", high=1.0, low_open=True, example="0.97")
RATE = Parameter("gamma", "how fast it decays")
POWER = Parameter("p", "power", example="2")
HALF = Parameter("l", "half a period", kind="length", low_open=True)
CYCLE = Parameter("l", "steps between two restarts", kind="length", low_open=True, example="20e")
END = Parameter("l", "where it ends", kind="length", low_open=True, example="100%")
ONE = Length(1.0)
PER = Parameter("per", "the time that one power of gamma takes", "length", low_open=True, default=ONE, example="1e")


def wave(name: str, formula: str, *parameters: Parameter, source: str = PAPER) -> Callable[[Shape], Shape]:
    """Register |k0 - k1| g, a function of the steps, of |k0 - k1| and of the shape parameters."""

    def add(shape: Shape) -> Shape:
        def lr(t: Steps, k0: float, k1: float = 0.0, **parameters: Any) -> Steps:
            values = shape(t, abs(k0 - k1), **parameters)
            values += min(k0, k1)
            return values

        LRBENCH.append(name)
        register(name, f"g = {formula}", source, *parameters)(lr)
        return shape

    return add


def power(base: float, n: Steps) -> Steps:
    """base^n for n >= 0. NumPy is slow where the result underflows: there it stays at the last normal number."""
    if base < 1:
        n = np.minimum(n, 700 / -math.log(base))  # base^last is e^-700
    return base**n


# Decaying


@register("FIX", "LR = k0", PAPER, START)
def fix(t: Steps, k0: float) -> Steps:
    return np.full(t.shape, k0)


@wave(
    "STEP",
    "gamma^floor(t / l)",
    START,
    DROP,
    Parameter("l", "steps between two drops", kind="length", low_open=True),
    FLOOR,
)
def step(t: Steps, span: float, gamma: float, l: float) -> Steps:  # noqa: E741
    return span * power(gamma, np.floor(t / l))


@wave("NSTEP", "gamma^(number of l_j <= t)", START, DROP, Parameter("l", "when it drops", kind="lengths"), FLOOR)
def nstep(t: Steps, span: float, gamma: float, l: tuple[float, ...]) -> Steps:  # noqa: E741
    milestones = sorted(l)  # of mixed units, in the order that they have when bound
    values = np.array([span * gamma**i for i in range(len(milestones) + 1)])
    return values[np.searchsorted(milestones, t, side="right")]


@wave("EXP", "gamma^(t / per)", START, GAMMA, PER, FLOOR)
def exp(t: Steps, span: float, gamma: float, per: float) -> Steps:
    return span * power(gamma, t / per)


@wave("INV", "(1 + gamma t / per)^-p", START, RATE, POWER, PER, FLOOR)
def inv(t: Steps, span: float, gamma: float, p: float, per: float) -> Steps:
    return span * (1 + gamma / per * t) ** -p


@wave("POLY", "(1 - t / l)^p, 0 after l", START, POWER, END, FLOOR)
def poly(t: Steps, span: float, p: float, l: float) -> Steps:  # noqa: E741
    return span * np.where(t < l, np.maximum(1 - t / l, 0) ** p, 0.0)


@wave(
    "SIG",
    "1 / (1 + exp(-gamma (t - l) / per)), falling for gamma < 0",
    START,
    Parameter("gamma", "how steep it is", low=-math.inf, example="-0.2"),
    Parameter("l", "where it is half", kind="length", example="50e"),
    PER,
    FLOOR,
    source=CODE,
)
def sig(t: Steps, span: float, gamma: float, l: float, per: float) -> Steps:  # noqa: E741
    # exp(-|x|) never overflows, and keeps the relative accuracy of both tails.
    x = gamma * ((t - l) / per)
    small: Steps = np.exp(np.maximum(-np.abs(x), -700.0))
    upper: Steps = np.where(x >= 0, 1.0, small)
    return span * upper / (1 + small)


# Cyclic, of the position x in the wave: 0 up to 2 half periods, reduced before anything else, so that late steps are as
# exact as early ones. A D in front starts half a period later (at the peak), UP starts the cosine at the floor; 2
# halves the amplitude after every period, EXP multiplies it with a power of gamma.


def tri(x: Steps) -> Steps:
    return 1 - np.abs(x - 1)  # (2/pi) |asin(sin(pi x / 2))| without its rounding


def sin(x: Steps) -> Steps:
    return np.abs(np.sin(math.pi / 2 * x))


def cos(x: Steps) -> Steps:
    return 0.5 * (1 + np.cos(math.pi * x))


def _register_falling(name: str, plain: Shape, periods: str, count: Shape, length: Parameter, source: str) -> None:
    """The 2 and EXP forms of a wave; `count` of the steps and l gives the `periods` that are over."""

    @wave(f"{name}2", f"{name} / 2^floor({periods})", K0, K1, length, source=source)
    def halving(t: Steps, span: float, l: float) -> Steps:  # noqa: E741
        return plain(t, span, l) * power(0.5, np.floor(count(t, l)))

    @wave(f"{name}EXP", f"{name} * gamma^(t / per)", K0, K1, length, GAMMA, PER, source=source)
    def decaying(t: Steps, span: float, l: float, gamma: float, per: float) -> Steps:  # noqa: E741
        return plain(t, span, l) * power(gamma, t / per)


def _register_cyclic(name: str, formula: str, g: LR, ahead: float, halving_ahead: float) -> None:
    """The plain wave and its 2 and EXP forms; `ahead` of the step by so many half periods."""
    source = PAPER if name in ("TRI", "SIN") else CODE

    @wave(name, formula, K0, K1, HALF, source=PAPER if name == "COS" else source)
    def plain(t: Steps, span: float, l: float) -> Steps:  # noqa: E741
        return span * g((t + ahead * l) % (2 * l) / l)

    moment = "(t + l)" if halving_ahead else "t"
    _register_falling(
        name, plain, f"{moment} / 2l", lambda t, half: (t + halving_ahead * half) / (2 * half), HALF, source
    )


_register_cyclic("TRI", "(2/pi) |asin(sin(pi t / 2l))|", tri, 0, 0)
_register_cyclic("DTRI", "(2/pi) |asin(sin(pi (t + l) / 2l))|", tri, 1, 1)
_register_cyclic("SIN", "|sin(pi t / 2l)|", sin, 0, 0)
_register_cyclic("DSIN", "|sin(pi (t + l) / 2l)|", sin, 1, 1)
_register_cyclic("COS", "(1 + cos(pi t / l)) / 2", cos, 0, 1)
_register_cyclic("UPCOS", "(1 + cos(pi (t / l + 1))) / 2", cos, 1, 0)


# Restarts, of u that falls from 1 to 0 within every l and starts again at 1.


def rsw(u: Steps) -> Steps:
    return u


def sinrsw(u: Steps) -> Steps:
    return np.sin(math.pi / 2 * u)


def cosrsw(u: Steps) -> Steps:
    return 0.5 * (1 - np.cos(math.pi * u))


def _register_restarts(name: str, formula: str, g: LR) -> None:
    @wave(name, f"{formula}, u = 1 - (t mod l) / l", K0, K1, CYCLE, source=CODE)
    def plain(t: Steps, span: float, l: float) -> Steps:  # noqa: E741
        return span * g(1 - t % l / l)

    _register_falling(name, plain, "t / l", lambda t, cycle: t / cycle, CYCLE, CODE)


_register_restarts("RSW", "u", rsw)
_register_restarts("SINRSW", "sin(pi u / 2)", sinrsw)
_register_restarts("COSRSW", "(1 - cos(pi u)) / 2", cosrsw)


# Dictionaries of LRBench to the JSON form of policies


def from_lrbench(
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]], boundaries: Sequence[float] = ()
) -> dict[str, Any]:
    """See `Policy.from_lrbench`."""
    if isinstance(parameters, Mapping):
        return _from_dictionary(parameters)
    pieces = [_from_dictionary(piece) for piece in parameters]
    return {"policy": "SEQ", "of": pieces, "at": list(boundaries)} if len(pieces) > 1 else pieces[0]


def _from_dictionary(parameters: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in parameters.items() if value is not None}
    name = given.pop("lrPolicy", None)
    if name not in LRBENCH:
        raise UserError(f"lrPolicy = {name!r} is not one of LRBench's: {did_you_mean(name, LRBENCH)}")
    known = {p.name for p in FUNCTIONS[name].parameters} & {"k0", "k1", "gamma", "p", "l"}
    if unknown := set(given) - {"k0", "k1", "gamma", "p", "l"}:
        raise UserError(f"LRBench's {name}: unknown key {min(unknown)!r}: {did_you_mean(min(unknown), known)}")
    # LRBench ignores what a function does not use (k1 of the decaying ones, for example).
    used = {key: given[key] for key in given if key in known}
    decaying = name in ("FIX", "STEP", "NSTEP", "EXP", "INV", "SIG")
    if decaying:
        used.pop("k1", None)
        return {"policy": name, **used}
    if missing := {"k0", "k1"} - set(used):
        raise UserError(f"LRBench's {name}: {min(missing)} is missing")
    k0, k1 = float(used["k0"]), float(used["k1"])
    if name == "POLY":  # LRBench has the end in k0 and the start in k1
        used["k0"], used["k1"] = max(k0, k1), min(k0, k1)
    policy = {"policy": name, **used}
    # LRBench's k0 + (k1 - k0) g(t): for k0 > k1 that is the wave upside down.
    return policy if k0 <= k1 else {"policy": "SCALE", "of": policy, "by": -1, "plus": k0 + k1}
