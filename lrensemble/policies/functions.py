"""The LR functions: closed forms of the step, and the range each parameter may have.

LR(t) = |k0 - k1| * g(t) + min(k0, k1), where t is the optimizer step (the first one is t = 0); Wu et al. 2019,
"Demystifying Learning Rate Policies for High Accuracy Training of Deep Neural Networks", Table I.

Each function below is g. It takes the step, the module whose functions to use (``math`` for one step, ``numpy``
for an array) and its shape parameters, with every length in steps. There is no state: any order of calls gives
the same values. Adding a function is adding one decorated definition.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lrensemble.errors import UserError
from lrensemble.policies.units import Length, format_number

Value = float | Length | tuple[Length, ...]
SHORTEST = 1e-6  # a length above 0 is at least this


@dataclass(frozen=True)
class Parameter:
    """One parameter of an LR function: what it means and which values it may have."""

    name: str
    meaning: str
    kind: str = "number"  # "number", "length" or "lengths" (ascending)
    low: float = 0.0
    high: float = math.inf
    low_open: bool = False  # True: the lower bound itself is not allowed
    default: Value | None = None  # None: must be given

    @property
    def allowed(self) -> str:
        """The allowed range in words, for error messages and help."""
        bound = f"{'>' if self.low_open else '>='} {format_number(self.low)}"
        if self.high < math.inf:
            bound += f" and <= {format_number(self.high)}"
        if self.kind == "number":
            return f"a number {bound}"
        unit = f"{bound}, in steps (500), epochs (10e) or share of the budget (50%)"
        return f"a length {unit}" if self.kind == "length" else f"an ascending list of lengths {unit}"

    def check(self, function: str, value: Any) -> Value:
        """Return `value` in its canonical type; raise `UserError` naming the value and the allowed range."""
        try:
            return self._convert(value)
        except (TypeError, ValueError, UserError):
            shown = f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)
            raise UserError(f"{function}: {self.name} = {shown} is not possible: it must be {self.allowed}") from None

    def _convert(self, value: Any) -> Value:
        if self.kind == "number":
            number = value.value if isinstance(value, Length) and value.unit == "" else float(value)
            return self._in_range(number)
        if self.kind == "length":
            return self._length(value)
        lengths = tuple(self._length(item) for item in value)
        if not lengths:
            raise ValueError("empty list")
        if len({length.unit for length in lengths}) == 1 and any(
            b.value <= a.value for a, b in itertools.pairwise(lengths)
        ):
            raise ValueError("not ascending")
        return lengths

    def _length(self, value: Any) -> Length:
        if isinstance(value, str):
            value = Length.parse(value)
        length = value if isinstance(value, Length) else Length(float(value))
        self._in_range(length.value)
        if 0 < length.value < SHORTEST:
            raise ValueError("so short that t / l overflows")
        return length

    def _in_range(self, number: float) -> float:
        above = number > self.low if self.low_open else number >= self.low
        if not (math.isfinite(number) and above and number <= self.high):
            raise ValueError("out of range")
        return float(number)


@dataclass(frozen=True)
class Function:
    """A registered LR function: its parameters and g(t)."""

    name: str
    formula: str
    parameters: tuple[Parameter, ...]
    g: Callable[..., Any]


FUNCTIONS: dict[str, Function] = {}


def _register(name: str, formula: str, *parameters: Parameter) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(g: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS[name] = Function(name, formula, parameters, g)
        return g

    return add


START = Parameter("k0", "LR at the start")
FLOOR = Parameter("k1", "LR that it decays to", default=0.0)
K0 = Parameter("k0", "one end of the LR range")
K1 = Parameter("k1", "the other end of the LR range", default=0.0)
GAMMA = Parameter("gamma", "factor", high=1.0, low_open=True)
RATE = Parameter("gamma", "how fast it decays")
POWER = Parameter("p", "power")
HALF = Parameter("l", "half a period", kind="length", low_open=True)
PER = Parameter("per", "the time that one power of gamma takes", kind="length", low_open=True, default=Length(1.0))


def _ramp(t: Any, half: float) -> Any:
    """Position in the wave, 0 up to 2, with the period 2 * half (reduced first: exact for late steps too)."""
    return (t % (2 * half)) / half


@_register("FIX", "k0", START)
def fix(t: Any, m: Any) -> Any:
    return t * 0.0 + 1.0


@_register(
    "STEP",
    "gamma^floor(t / l)",
    START,
    GAMMA,
    Parameter("l", "steps between two drops", kind="length", low_open=True),
    FLOOR,
)
def step(t: Any, m: Any, gamma: float, l: float) -> Any:  # noqa: E741 (the literature's name)
    return gamma ** m.floor(t / l)


@_register(
    "NSTEP",
    "gamma^(number of l_j <= t)",
    START,
    GAMMA,
    Parameter("l", "when it drops", kind="lengths"),
    FLOOR,
)
def nstep(t: Any, m: Any, gamma: float, l: Iterable[float]) -> Any:  # noqa: E741
    return gamma ** (sum(t >= milestone for milestone in l) * 1.0)


@_register("EXP", "gamma^(t / per)", START, GAMMA, PER, FLOOR)
def exp(t: Any, m: Any, gamma: float, per: float) -> Any:
    return gamma ** (t / per)


@_register("INV", "(1 + gamma t / per)^-p", START, RATE, POWER, PER, FLOOR)
def inv(t: Any, m: Any, gamma: float, p: float, per: float) -> Any:
    return (1 + gamma * (t / per)) ** -p


@_register(
    "POLY",
    "(1 - t / l)^p, 0 after l",
    START,
    POWER,
    Parameter("l", "where it ends", "length", low_open=True),
    FLOOR,
)
def poly(t: Any, m: Any, p: float, l: float) -> Any:  # noqa: E741
    left = 1 - t / l
    # (x + |x|) / 2 is max(x, 0), exactly, for numbers and arrays alike. 0^0 = 1 would restart a p = 0 policy.
    return ((left + abs(left)) / 2) ** p * (left > 0)


@_register("TRI", "(2/pi) |asin(sin(pi t / 2l))|", K0, K1, HALF)
def tri(t: Any, m: Any, l: float) -> Any:  # noqa: E741
    return 1 - abs(_ramp(t, l) - 1)  # the same wave without the rounding of asin(sin(x)) at large x


@_register("TRI2", "TRI / 2^floor(t / 2l)", K0, K1, HALF)
def tri2(t: Any, m: Any, l: float) -> Any:  # noqa: E741
    return tri(t, m, l) * 0.5 ** m.floor(t / (2 * l))


@_register("TRIEXP", "TRI * gamma^(t / per)", K0, K1, HALF, GAMMA, PER)
def triexp(t: Any, m: Any, l: float, gamma: float, per: float) -> Any:  # noqa: E741
    return tri(t, m, l) * gamma ** (t / per)


@_register("SIN", "|sin(pi t / 2l)|", K0, K1, HALF)
def sin(t: Any, m: Any, l: float) -> Any:  # noqa: E741
    return abs(m.sin(math.pi / 2 * _ramp(t, l)))


@_register("SIN2", "SIN / 2^floor(t / 2l)", K0, K1, HALF)
def sin2(t: Any, m: Any, l: float) -> Any:  # noqa: E741
    return sin(t, m, l) * 0.5 ** m.floor(t / (2 * l))


@_register("SINEXP", "SIN * gamma^(t / per)", K0, K1, HALF, GAMMA, PER)
def sinexp(t: Any, m: Any, l: float, gamma: float, per: float) -> Any:  # noqa: E741
    return sin(t, m, l) * gamma ** (t / per)


# LRBench's code has pi t / l (l = half a period), the paper's table 2 pi t / l. We follow the code, so that l
# means the same in TRI, SIN and COS, and COS equals torch's CosineAnnealingLR(T_max=l).
@_register("COS", "(1 + cos(pi t / l)) / 2", K0, K1, HALF)
def cos(t: Any, m: Any, l: float) -> Any:  # noqa: E741
    return 0.5 * (1 + m.cos(math.pi * _ramp(t, l)))
