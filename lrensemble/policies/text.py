"""The text form of policies, of grids and of search spaces.

    policy    = NAME [ "(" argument { "," argument } ")" ]
    argument  = [ name "=" ] value          (positional in the order of the function's parameters)
    value     = number [ "e" | "%" ] | word | policy | "[" value { "," value } "]" | range
    range     = ("log" | "uniform") "(" number "," number ")"

A list where the function takes one value is a grid: ``FIX(k0=[0.05, 0.1])`` is two policies. A list of lists is a
grid over a list-valued parameter: ``NSTEP(k0=0.1, gamma=0.1, l=[[10e,15e], [12e,18e]])``. A range makes the text a
search space: it has infinitely many policies, to sample from or to search in.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from lrensemble.errors import UserError
from lrensemble.policies.policy import Policy, find_definition
from lrensemble.policies.ranges import RANGES, Range
from lrensemble.policies.units import NUMBER, Length

_TOKEN = re.compile(
    rf"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<length>{NUMBER}(?:e(?![\w.])|%)?)|(?P<mark>[()\[\],=]))", re.ASCII
)


MOST_CHARACTERS = 1_000_000  # of a text
MOST_POLICIES = 100_000  # of a grid: counted before one is built
LONGEST_TOKEN = 200  # characters of a name or a number
DEEPEST = 50  # policies and lists inside each other


@dataclass
class Call:
    """``NAME(...)`` as it was written: arguments are lengths, words, calls, ranges, and lists of them."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


class _Reader:
    """The tokens of one text, with a position."""

    def __init__(self, text: str) -> None:
        if len(text) > MOST_CHARACTERS:
            raise UserError(f"policy {_cut(text)} has {len(text):,} characters, at most {MOST_CHARACTERS:,} are read")
        self.text = _cut(text)
        self.tokens: list[str] = []
        self.depth = 0
        text = text.rstrip()
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or len(match.group().strip()) > LONGEST_TOKEN:
                rest = _cut(text[position:].strip())
                raise UserError(f"cannot read policy {self.text} at {rest}: write NAME(parameter=value, ...)")
            self.tokens.append(match.group().strip())
            position = match.end()
        self.position = 0

    def peek(self, ahead: int = 0) -> str:
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else ""

    def next(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            found = repr(token) if token else "the end"
            wanted = f"{expected!r} expected, " if expected else ""
            raise UserError(f"cannot read policy {self.text}: {wanted}found {found}")
        self.position += 1
        self.depth += (token in "([") - (token in ")]")
        if self.depth > DEEPEST:
            raise UserError(f"policy {self.text} has more than {DEEPEST} policies or lists inside each other")
        return token

    def call(self) -> Call:
        name = self.next()
        definition = find_definition(name)
        call = Call(definition.name)
        if self.peek() == "(":
            self.next("(")
            call.arguments = self._arguments([p.name for p in definition.parameters])
            self.next(")")
        return call

    def _arguments(self, names: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.peek() not in (")", ""):
            if self.peek(1) == "=":
                name = self.next()
                self.next("=")
            elif len(found) < len(names):
                name = names[len(found)]
            else:
                raise UserError(f"policy {self.text} has more values than parameters ({', '.join(names)})")
            if name in found:
                raise UserError(f"policy {self.text} gives {name} twice")
            found[name] = self._value()
            if self.peek() != ")":
                self.next(",")
        return found

    def _value(self) -> Any:
        token = self.peek()
        if token == "[":
            return self._list()
        if token in RANGES and self.peek(1) == "(":
            return self._range()
        if token[:1].isalpha() or token[:1] == "_":
            # A word is in lower case and stands alone; anything else is a policy.
            if self.peek(1) != "(" and token.islower():
                return self.next()
            return self.call()
        return self._length()

    def _list(self) -> list[Any]:
        self.next("[")
        items = [self._value()]
        while self.peek() == ",":
            self.next(",")
            items.append(self._value())
        self.next("]")
        return items

    def _range(self) -> Range:
        kind = self.next()
        self.next("(")
        low = self._length()
        self.next(",")
        high = self._length()
        self.next(")")
        if low.unit != high.unit:
            raise UserError(f"{kind}({low}, {high}): both ends must have the same unit")
        return Range(kind, low.value, high.value, low.unit)

    def _length(self) -> Length:
        token = self.next()
        try:
            return Length.parse(token)
        except UserError:
            raise UserError(f"cannot read policy {self.text}: a finite number expected, found {token!r}") from None


@dataclass(frozen=True)
class Space:
    """All policies of a text: one, a grid of several, or infinitely many.

    Attributes
    ----------
    axes : dict
        Dotted path of every parameter that varies (``k0``, ``then.l``) -> a tuple of values, or a `Range`.
    """

    call: Call
    axes: dict[str, Any]

    @classmethod
    def parse(cls, text: str, most: int | None = None) -> Self:
        """Read a text; `UserError` when it has more than `most` policies, before the first one is built."""
        reader = _Reader(text)
        call = reader.call()
        if reader.peek():
            raise UserError(f"cannot read policy {reader.text}: {reader.peek()!r} after its end")
        if most is not None and (count := _count(call)) > most:
            many = f"{count:,}" if count < 10**15 else "more than 10^15"
            limit = "where one is needed" if most == 1 else f"at once, at most {most:,} are possible"
            raise UserError(f"{reader.text} is a grid of {many} policies {limit}")
        axes: dict[str, Any] = {}
        _collect(call, "", axes)
        return cls(call, axes)

    @property
    def size(self) -> int:
        """Policies of the grid; a range counts once."""
        return math.prod(1 if isinstance(axis, Range) else len(axis) for axis in self.axes.values())

    def policy(self, values: Mapping[str, Any]) -> Policy:
        """The policy at a point: a value for every axis."""
        return _build(self.call, "", values)

    def grid(self) -> list[Policy]:
        """Every policy, in the order in which the lists are written, last list fastest."""
        if ranges := [f"{path}={axis}" for path, axis in self.axes.items() if isinstance(axis, Range)]:
            raise UserError(f"{ranges[0]} is a range: sample some policies, {{sample: TEXT, n: 8}} in a configuration")
        points = itertools.product(*self.axes.values())
        return [self.policy(dict(zip(self.axes, point, strict=True))) for point in points]

    def sample(self, n: int, seed: int = 0) -> list[Policy]:
        """`n` random policies: values from ranges and from lists."""
        rng = np.random.default_rng(seed)

        def draw(axis: Any) -> Any:
            return axis.sample(rng) if isinstance(axis, Range) else axis[rng.integers(len(axis))]

        return [self.policy({path: draw(axis) for path, axis in self.axes.items()}) for _ in range(n)]


def _parameter_kinds(call: Call) -> dict[str, Any]:
    return {p.name: p for p in find_definition(call.name).parameters}


def _collect(call: Call, prefix: str, axes: dict[str, Any]) -> None:
    """Find what varies in a call and, in order, in the calls inside it."""
    kinds = _parameter_kinds(call)
    for name, value in call.arguments.items():
        path = prefix + name
        is_list = name in kinds and kinds[name].is_list
        if isinstance(value, Range):
            axes[path] = value
        elif isinstance(value, list) and (not is_list or all(isinstance(item, list) for item in value)):
            if any(isinstance(item, Call) for item in value):
                # A choice between policies: each can vary by itself.
                if sum(map(_count, value)) > MOST_POLICIES:
                    raise UserError(f"{call.name}: {name} is a choice between more than {MOST_POLICIES:,} policies")
                value = [policy for item in value for policy in _space(item).grid()]
            axes[path] = tuple(value)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, Call):
                    _collect(item, f"{path}.{i}.", axes)
        elif isinstance(value, Call):
            _collect(value, f"{path}.", axes)


def _count(value: Any) -> int:
    """Policies of a call as it was written, ranges counted as one value; of any other value 1."""
    if not isinstance(value, Call):
        return 1
    kinds = _parameter_kinds(value)
    counts = []
    for name, argument in value.arguments.items():
        if isinstance(argument, list):
            is_list = name in kinds and kinds[name].is_list
            chosen = not is_list or all(isinstance(item, list) for item in argument)
            counts.append(sum(map(_count, argument)) if chosen else math.prod(map(_count, argument)))
        else:
            counts.append(_count(argument))
    return math.prod(counts)


def _cut(text: str) -> str:
    """As an error shows it."""
    return repr(text if len(text) <= 200 else f"{text[:200]} ...")


def _space(item: Any) -> Space:
    axes: dict[str, Any] = {}
    if not isinstance(item, Call):
        raise UserError(f"{item} stands in a list of policies")
    _collect(item, "", axes)
    return Space(item, axes)


def _build(call: Call, prefix: str, values: Mapping[str, Any]) -> Policy:
    def plain(value: Any, path: str) -> Any:
        if path in values:
            return values[path]
        if isinstance(value, Call):
            return _build(value, f"{path}.", values)
        if isinstance(value, list):
            return [plain(item, f"{path}.{i}") for i, item in enumerate(value)]
        return value

    arguments = {name: plain(value, prefix + name) for name, value in call.arguments.items()}
    return Policy.make(call.name, **arguments)


def parse_policies(text: str) -> list[Policy]:
    """Return every policy of a (grid) text, in the order in which the lists are written, last list fastest."""
    return Space.parse(text, MOST_POLICIES).grid()
