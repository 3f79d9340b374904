"""The table of LR functions: what each is called, which parameters it takes and in which range.

Adding a function to the package is adding one decorated definition to `lrbench`, `modern` or `compose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies.units import Length, format_number, may_ascend

Value = Any  # float, str, Length, Policy, or a tuple of one of them
Steps = NDArray[np.float64]  # (n,), n > 0, contiguous: the LR of a step is the same bits in whichever array it stands
LR = Callable[[Steps], Steps]
Shape = Callable[..., Steps]  # of the steps and of parameters by their names

SHORTEST = 1e-6  # a length above 0 is at least this


@dataclass(frozen=True)
class Parameter:
    """One parameter of an LR function: what it means and which values it may have."""

    name: str
    meaning: str
    kind: str = "number"  # number(s), length(s) (ascending), word, policy, policies
    low: float = 0.0
    high: float = math.inf
    low_open: bool = False  # True: the lower bound itself is not allowed
    default: Value | None = None  # None: must be given
    words: tuple[str, ...] = ()  # of kind "word"

    @property
    def is_list(self) -> bool:
        return self.kind in ("numbers", "lengths", "policies")

    @property
    def allowed(self) -> str:
        """The allowed values in words, for error messages and help."""
        if self.kind == "word":
            return " or ".join(self.words)
        if self.kind in ("policy", "policies"):
            return "a policy" if self.kind == "policy" else "a list of policies"
        bound = "any" if self.low == -math.inf else f"{'>' if self.low_open else '>='} {format_number(self.low)}"
        if self.high < math.inf:
            bound += f" and <= {format_number(self.high)}"
        if self.kind in ("number", "numbers"):
            return f"a number {bound}" if self.kind == "number" else f"a list of numbers {bound}"
        unit = f"{bound}, in steps (500), epochs (10e) or share of the budget (50%)"
        return f"a length {unit}" if self.kind == "length" else f"an ascending list of lengths {unit}"

    def check(self, function: str, value: Any) -> Value:
        """Return `value` in its canonical type; raise `UserError` naming the value and the allowed range."""
        try:
            return self._convert(value)
        except (TypeError, ValueError, UserError) as error:
            if isinstance(error, UserError) and self.kind in ("policy", "policies"):
                raise  # the inner policy says what is wrong with it
            shown = f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)
            if self.kind == "word":
                hint = did_you_mean(shown, self.words)
                raise UserError(f"{function}: {self.name} = {shown} is not possible: {hint}") from None
            raise UserError(f"{function}: {self.name} = {shown} is not possible: it must be {self.allowed}") from None

    def _convert(self, value: Any) -> Value:
        if not self.is_list:
            return self._one(value)
        items = tuple(self._one(item) for item in value)
        if not items:
            raise ValueError("empty list")
        if self.kind == "lengths" and not may_ascend(items):
            raise ValueError("not ascending")
        return items

    def _one(self, value: Any) -> Value:
        from lrensemble.policies.policy import Policy

        if self.kind in ("policy", "policies"):
            if isinstance(value, str):
                value = Policy.parse(value)
            elif isinstance(value, Mapping):
                value = Policy.from_dict(value)
            if not isinstance(value, Policy):
                raise TypeError("not a policy")
            return value
        if self.kind == "word":
            if value not in self.words:
                raise ValueError("unknown word")
            return str(value)
        if self.kind in ("length", "lengths"):
            if isinstance(value, str):
                value = Length.parse(value)
            length = value if isinstance(value, Length) else Length(float(value))
            self._in_range(length.value)
            if 0 < length.value < SHORTEST:
                raise ValueError("so short that t / l overflows")
            return length
        if isinstance(value, Length) and value.unit:
            raise ValueError("a number has no unit")
        return self._in_range(float(value.value if isinstance(value, Length) else value))

    def _in_range(self, number: float) -> float:
        above = number > self.low if self.low_open else number >= self.low
        if not (math.isfinite(number) and above and number <= self.high):
            raise ValueError("out of range")
        return number


def whole_budget(values: dict[str, Any], total: float) -> dict[str, list[float]]:
    """Inner policies share the budget of the outer one."""
    return {}


def nothing_more(values: dict[str, Any]) -> None:
    """Every parameter is right by itself: nothing more to check."""


@dataclass(frozen=True)
class Function:
    """A registered LR function.

    Attributes
    ----------
    lr : callable
        ``lr(t, **parameters)`` returns the LRs of the steps t, with every length in steps and every inner policy as
        such a function.
    check : callable
        Raises `UserError` when parameters do not fit together.
    inner_budgets : callable
        From bound lengths and the total steps to the total steps that every inner policy has (parameter -> list).
    """

    name: str
    formula: str
    source: str
    parameters: tuple[Parameter, ...]
    lr: Shape
    inner_budgets: Callable[[dict[str, Any], float], dict[str, list[float]]] = whole_budget
    check: Callable[[dict[str, Any]], None] = nothing_more


FUNCTIONS: dict[str, Function] = {}


def register(
    name: str,
    formula: str,
    source: str,
    *parameters: Parameter,
    inner_budgets: Callable[[dict[str, Any], float], dict[str, list[float]]] = whole_budget,
    check: Callable[[dict[str, Any]], None] = nothing_more,
) -> Callable[[Shape], Shape]:
    """Add the decorated ``lr(t, **parameters)`` to `FUNCTIONS`."""

    def add(lr: Shape) -> Shape:
        FUNCTIONS[name] = Function(name, formula, source, parameters, lr, inner_budgets, check)
        return lr

    return add
