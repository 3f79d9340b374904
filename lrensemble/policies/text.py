"""The text form of policies, of grids and of search spaces.

    policy    = NAME [ "(" argument { "," argument } ")" ]
    argument  = [ name "=" ] value          (without names first, in the order of the function's parameters)
    value     = number [ "e" | "%" ] | word | policy | "[" value { "," value } "]" | range
    range     = ("log" | "uniform") "(" number "," number ")"

A list where the function takes one value is a grid: ``FIX(k0=[0.05, 0.1])`` is two policies. A list of lists is a
grid over a list-valued parameter: ``NSTEP(k0=0.1, gamma=0.1, l=[[10e,15e], [12e,18e]])``. A range makes the text a
search space: it has infinitely many policies, to sample from or to search in.

A decimal comma (``0,05``) would be two values: no value without a name follows one with a name, no number starts with a
zero that means nothing (``05``), and ``0,1`` as two values has a space after its comma.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lrensemble.errors import UserError
from lrensemble.policies.registry import find_definition
from lrensemble.policies.units import NUMBER, RANGES, Length, Range

_TOKEN = re.compile(
    rf"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<length>{NUMBER}(?:e(?![\w.])|%)?)|(?P<mark>[()\[\],=]))", re.ASCII
)
_WHOLE = re.compile(r"[-+]?\d+", re.ASCII)


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
        self.spaced: list[bool] = []  # whether a space is before the token
        self.depth = 0
        text = text.rstrip()
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or len(match.group().strip()) > LONGEST_TOKEN:
                rest = _cut(text[position:].strip())
                raise UserError(f"cannot read policy {self.text} at {rest}: write NAME(parameter=value, ...)")
            self.tokens.append(match.group().strip())
            self.spaced.append(match.group()[0].isspace())
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
            lists = {p.name for p in definition.parameters if p.is_list}
            call.arguments = self._arguments([p.name for p in definition.parameters], lists)
            self.next(")")
        return call

    def _arguments(self, names: list[str], lists: set[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        last = ""  # name that was written
        while self.peek() not in (")", ""):
            if self.peek(1) == "=":
                name = last = self.next()
                self.next("=")
            elif last:
                hint = self._decimal() or ": write name=value"
                raise self._error(f"{self.peek()!r} has no name, but stands after {last}={hint}")
            elif len(found) < len(names):
                name = names[len(found)]
            else:
                hints = (self._decimal(i) for i in range(self.position + 1) if self.tokens[i - 2] == "0")
                hint = next(filter(None, hints), "")
                raise UserError(f"policy {self.text} has more values than parameters ({', '.join(names)}){hint}")
            if name in found:
                raise UserError(f"policy {self.text} gives {name} twice")
            start = self.position
            found[name] = value = self._value()
            if len(found) == 2:
                self._check_zero(start)
            if isinstance(value, list) and name not in lists:  # a grid
                for position in range(start + 3, self.position):
                    self._check_zero(position)
            if self.peek() != ")":
                self.next(",")
        return found

    def _check_zero(self, position: int) -> None:
        """Refuse a 0, a comma and, without a space, a number: 0,1 may be 0.1."""
        if (decimal := self._decimal(position)) and self.tokens[position - 2] == "0" and not self.spaced[position]:
            number = self.tokens[position]
            raise self._error(f"is 0,{number} one number or two?{decimal}, or 0, {number} for two values")

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

    def _error(self, what: str) -> UserError:
        return UserError(f"cannot read policy {self.text}: {what}")

    def _decimal(self, position: int = -1) -> str:
        """A hint where the comma before the number here (or at `position`) may be a decimal one."""
        position = self.position if position < 0 else position
        before, comma, number = ["", "", *self.tokens, ""][position : position + 3]
        if comma == "," and _WHOLE.fullmatch(before) and re.match(r"\d+(?![\d.])", number):
            thousands = f" or {before}{number}" if before != "0" and re.match(r"\d{3}(?!\d)", number) else ""
            return f" ({before},{number}? write {before}.{number}{thousands})"
        return ""

    def _length(self) -> Length:
        token = self.peek()
        if re.match(r"[-+]?0\d", token):
            fix = self._decimal() or ": write " + re.sub(r"0+(?=\d)", "", token, count=1)
            raise self._error(f"{token!r} starts with a 0 that means nothing{fix}")
        self.next()
        try:
            return Length.parse(token)
        except UserError:
            raise UserError(f"cannot read policy {self.text}: a finite number expected, found {token!r}") from None


def read(text: str) -> Call:
    """The call that a text is, grids and ranges as they were written."""
    reader = _Reader(text)
    call = reader.call()
    if reader.peek():
        raise UserError(f"cannot read policy {reader.text}: {reader.peek()!r} after its end")
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
                if sum(map(count, value)) > MOST_POLICIES:
                    raise UserError(f"{call.name}: {name} is a choice between more than {MOST_POLICIES:,} policies")
                value = [call for item in value for call in _grid_of_item(item)]
            axes[path] = tuple(value)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, Call):
                    axes |= axes_of(item, f"{path}.{i}.")
        elif isinstance(value, Call):
            axes |= axes_of(value, f"{path}.")
    return axes


def count(value: Any) -> int:
    """Policies of a call as it was written, ranges counted as one value; of any other value 1."""
    if not isinstance(value, Call):
        return 1
    lists = {p.name for p in find_definition(value.name).parameters if p.is_list}
    counts = []
    for name, argument in value.arguments.items():
        if isinstance(argument, list):
            chosen = name not in lists or all(isinstance(item, list) for item in argument)
            counts.append(sum(map(count, argument)) if chosen else math.prod(map(count, argument)))
        else:
            counts.append(count(argument))
    return math.prod(counts)


def _cut(text: str) -> str:
    """As an error shows it."""
    return repr(text if len(text) <= 200 else f"{text[:200]} ...")


def _grid_of_item(item: Any) -> list[Call]:
    if not isinstance(item, Call):
        raise UserError(f"{item} stands in a list of policies")
    return grid(item)


def singles(text: str, most: int = MOST_POLICIES) -> list[Call]:
    """Every single call of a (grid) text; `UserError` when there are more than `most`, before the first one is made."""
    call = read(text)
    if (policies := count(call)) > most:
        many = f"{policies:,}" if policies < 10**15 else "more than 10^15"
        limit = "where one is needed" if most == 1 else f"at once, at most {most:,} are possible"
        raise UserError(f"{_cut(text)} is a grid of {many} policies {limit}")
    return grid(call)


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
