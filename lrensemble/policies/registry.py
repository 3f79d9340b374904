"""The table of LR functions: what each is called, which parameters it takes and in which range.

Adding a function is one decorated definition: to `lrbench`, `modern` or `compose`, or in any other package:

    @register("SQRT", "LR = k0 / sqrt(1 + t / l)", "our lab", K0, L)
    def sqrt(t, k0, l):  # steps (n,), float64, and the parameters, lengths in steps; returns the LRs (n,)
        return k0 / np.sqrt(1 + t / l)

An installed package lists its module in the entry-point group ``lrensemble.policies`` (`lrensemble.plugins`). It is
imported when a name is asked for that is not known yet.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.plugins import Registry, home_of
from lrensemble.policies.units import Length, format_number, may_ascend

Value = Any  # float, str, Length, Policy, or a tuple of one of them
Steps = NDArray[np.float64]  # (n,), n > 0, contiguous: the LR of a step is the same bits in whichever array it stands
LR = Callable[[Steps], Steps]
Shape = Callable[..., Steps]  # of the steps and of parameters by their names

KINDS = {  # with a usual value, in a training of about 100 epochs
    "number": "0.1",
    "numbers": "[0.1, 0.01]",
    "length": "10e",
    "lengths": "[50e, 75e]",
    "word": "",
    "policy": "COS(k0=0.1, l=100%)",
    "policies": "[TRI(k0=0.1, k1=0.01, l=10e), COS(k0=0.05, l=100%)]",
}
SHORTEST = 1e-6  # a length above 0 is at least this


@dataclass(frozen=True)
class Parameter:
    """One parameter of an LR function: what it means and which values it may have."""

    name: str
    meaning: str
    kind: str = "number"  # one of KINDS; lengths ascend
    low: float = 0.0
    high: float = math.inf
    low_open: bool = False  # True: the lower bound itself is not allowed
    default: Value | None = None  # None: must be given
    words: tuple[str, ...] = ()  # of kind "word"
    example: str = ""  # default: nothing where it may be left out, else a usual value of its kind

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"parameter {self.name}: kind {self.kind!r}: {did_you_mean(self.kind, KINDS)}")
        if not re.fullmatch("[a-z][a-z0-9_]*", self.name) or self.name == "policy":
            raise UserError(
                f"parameter name {self.name!r} is not possible: lower-case letters, digits and _; not policy"
            )
        if self.kind == "word" and not self.words:
            raise UserError(f"parameter {self.name}: a word needs its words")
        if self.default is not None:
            object.__setattr__(self, "default", self.check("default", self.default))
        elif not self.example:
            object.__setattr__(self, "example", KINDS[self.kind] or self.words[0])

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

    def check(self, function: str, value: Any, policy: Callable[[Any], Any] = lambda value: value) -> Value:
        """Return `value` in its canonical type; raise `UserError` naming the value and the allowed range.

        `policy` makes a policy of what stands for one.
        """
        try:
            return self._convert(value, policy)
        except (TypeError, ValueError, UserError) as error:
            if isinstance(error, UserError) and self.kind in ("policy", "policies"):
                raise  # the inner policy says what is wrong with it
            shown = f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)
            if self.kind == "word":
                hint = did_you_mean(shown, self.words)
                raise UserError(f"{function}: {self.name} = {shown} is not possible: {hint}") from None
            raise UserError(f"{function}: {self.name} = {shown} is not possible: it must be {self.allowed}") from None

    def _convert(self, value: Any, policy: Callable[[Any], Any]) -> Value:
        one = policy if self.kind in ("policy", "policies") else self._one
        if not self.is_list:
            return one(value)
        items = tuple(one(item) for item in value)
        if not items:
            raise ValueError("empty list")
        if self.kind == "lengths" and not may_ascend(items):
            raise ValueError("not ascending")
        return items

    def _one(self, value: Any) -> Value:
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


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What can be written as ``NAME(parameter=value, ...)``.

    Attributes
    ----------
    formula, source : str
        For help: what it computes, and where it is from.
    check : callable
        Raises `UserError` when parameters do not fit together.
    inner_budgets : callable
        From bound lengths and the total steps to the total steps that every inner policy has (parameter -> list).
    """

    name: str
    formula: str = ""
    source: str
    parameters: tuple[Parameter, ...]
    check: Callable[[dict[str, Any]], None] = nothing_more
    inner_budgets: Callable[[dict[str, Any], float], dict[str, list[float]]] = whole_budget

    @property
    def example(self) -> str:
        """One use of it."""
        return f"{self.name}({', '.join(f'{p.name}={p.example}' for p in self.parameters if p.example)})"


@dataclass(frozen=True, kw_only=True)
class Function(Definition):
    """An LR function: ``lr(t, **parameters)`` has lengths in steps and inner policies as functions of the steps."""

    lr: Shape


@dataclass(frozen=True, kw_only=True)
class Alias(Definition):
    """A usual name: ``expand(**parameters)`` is the JSON form of the policy that it stands for."""

    expand: Callable[..., dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Control(Definition):
    """A controller: ``make(**parameters)`` begins one."""

    make: Callable[..., Any]


def _check_definition(name: str, value: Any) -> None:
    if not isinstance(value, Definition):
        raise UserError(f"policy {name}: {value!r:.60} is no policy: lrensemble.register_policy makes one")


DEFINITIONS: Registry[Definition] = Registry("policies", "LR policy", check=_check_definition)
FUNCTIONS: dict[str, Function] = {}
ALIASES: dict[str, Alias] = {}
CONTROLS: dict[str, Control] = {}


def register(
    name: str,
    formula: str,
    source: str,
    *parameters: Parameter,
    inner_budgets: Callable[[dict[str, Any], float], dict[str, list[float]]] = whole_budget,
    check: Callable[[dict[str, Any]], None] = nothing_more,
) -> Callable[[Shape], Shape]:
    """Decorator: ``lr(t, **parameters)`` is the policy `name`.

    `lr` gets a one-dimensional float64 array of at least one step and returns as many LRs >= 0. Steps come in pieces
    and in any order: the LR of a step may depend on nothing else.

    Raises
    ------
    UserError
        A name that is taken or impossible, parameters that `lr` does not take.
    """

    def add(lr: Shape) -> Shape:
        check_name(name, lr, ["t", *(p.name for p in parameters)])
        made = Function(
            name=name,
            formula=formula,
            source=source,
            parameters=parameters,
            lr=lr,
            inner_budgets=inner_budgets,
            check=check,
        )
        DEFINITIONS.add(name, made, home_of(lr))
        FUNCTIONS[name] = made
        return lr

    return add


def check_name(name: str, function: Callable[..., Any], arguments: list[str]) -> None:
    """`UserError` where a name is impossible, or where the arguments do not fit the function."""
    home = home_of(function)
    if not re.fullmatch("[A-Z][A-Z0-9_]*", name):
        raise UserError(f"policy name {name!r} ({home}) is not possible: capital letters, digits and _, as in COS2")
    try:
        inspect.signature(function).bind(*[None] * ("t" in arguments), **{a: None for a in arguments if a != "t"})
    except TypeError as error:
        raise UserError(f"policy {name}: {home} does not take ({', '.join(arguments)}): {error}") from None


def find_definition(name: str) -> Definition:
    """Return what is called `name` (any case); `UserError` with the nearest name."""
    key = name.upper()
    return FUNCTIONS.get(key) or ALIASES.get(key) or CONTROLS.get(key) or DEFINITIONS.find(key)
