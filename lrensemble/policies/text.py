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
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lrensemble.errors import UserError
from lrensemble.policies.ranges import RANGES, Range
from lrensemble.policies.registry import find_definition
from lrensemble.policies.units import NUMBER, Length

_TOKEN = re.compile(
    rf"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<length>{NUMBER}(?:e(?![\w.])|%)?)|(?P<mark>[()\[\],=]))", re.ASCII
)


@dataclass
class Call:
    """``NAME(...)`` as it was written: arguments are lengths, words, calls, ranges, and lists of them."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


class _Reader:
    """The tokens of one text, with a position."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                rest = text[position:].strip()
                raise UserError(f"cannot read policy {text!r} at {rest!r}: write NAME(parameter=value, ...)")
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
            raise UserError(f"cannot read policy {self.text!r}: {wanted}found {found}")
        self.position += 1
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
                raise UserError(f"policy {self.text!r} has more values than parameters ({', '.join(names)})")
            if name in found:
                raise UserError(f"policy {self.text!r} gives {name} twice")
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
            raise UserError(f"cannot read policy {self.text!r}: a finite number expected, found {token!r}") from None


def read(text: str) -> Call:
    """The call that a text is, grids and ranges as they were written."""
    reader = _Reader(text)
    call = reader.call()
    if reader.peek():
        raise UserError(f"cannot read policy {text!r}: {reader.peek()!r} after its end")
    return call


def axes_of(call: Call, prefix: str = "") -> dict[str, Any]:
    """What varies in a call and, in order, in the calls inside it: dotted path -> a tuple of values, or a `Range`."""
    axes: dict[str, Any] = {}
    lists = {p.name for p in find_definition(call.name).parameters if p.is_list}
    for name, value in call.arguments.items():
        path = prefix + name
        if isinstance(value, Range):
            axes[path] = value
        elif isinstance(value, list) and (name not in lists or all(isinstance(item, list) for item in value)):
            if any(isinstance(item, Call) for item in value):
                # A choice between policies: each can vary by itself.
                value = [call for item in value for call in _grid_of_item(item)]
            axes[path] = tuple(value)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, Call):
                    axes |= axes_of(item, f"{path}.{i}.")
        elif isinstance(value, Call):
            axes |= axes_of(value, f"{path}.")
    return axes


def _grid_of_item(item: Any) -> list[Call]:
    if not isinstance(item, Call):
        raise UserError(f"{item} stands in a list of policies")
    return grid(item)


def grid(call: Call) -> list[Call]:
    """Every single call of a grid, in the order in which the lists are written, last list fastest."""
    axes = axes_of(call)
    if ranges := [f"{path}={axis}" for path, axis in axes.items() if isinstance(axis, Range)]:
        raise UserError(f"{ranges[0]} is a range: sample some policies, {{sample: TEXT, n: 8}} in a configuration")
    return [at(call, dict(zip(axes, point, strict=True))) for point in itertools.product(*axes.values())]


def at(call: Call, values: Mapping[str, Any], prefix: str = "") -> Call:
    """The call with a value for every one of its axes."""

    def plain(value: Any, path: str) -> Any:
        if path in values:
            return values[path]
        if isinstance(value, Call):
            return at(value, values, f"{path}.")
        if isinstance(value, list):
            return [plain(item, f"{path}.{i}") for i, item in enumerate(value)]
        return value

    return Call(call.name, {name: plain(value, prefix + name) for name, value in call.arguments.items()})
