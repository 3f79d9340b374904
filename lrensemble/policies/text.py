"""The text form of policies: ``STEP(k0=0.1, gamma=0.1, l=30e)``, and grids over lists of values.

    policy    = NAME [ "(" argument { "," argument } ")" ]
    argument  = [ name "=" ] value          (positional in the order of the function's parameters)
    value     = number [ "e" | "%" ] | "[" value { "," value } "]"

A list where the function takes one value is a grid: ``FIX(k0=[0.05, 0.1])`` is two policies. A list of lists is a
grid over a list-valued parameter: ``NSTEP(k0=0.1, gamma=0.1, l=[[10e,15e], [12e,18e]])``.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from lrensemble.errors import UserError
from lrensemble.policies.policy import Policy, find_function
from lrensemble.policies.units import NUMBER, Length

_TOKEN = re.compile(
    rf"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<length>{NUMBER}(?:e(?![\w.])|%)?)|(?P<mark>[()\[\],=]))", re.ASCII
)


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
            raise UserError(
                f"cannot read policy {self.text!r}: {f'{expected!r} expected, ' if expected else ''}found {found}"
            )
        self.position += 1
        return token

    def value(self) -> Any:
        if self.peek() != "[":
            token = self.next()
            try:
                return Length.parse(token)
            except UserError:
                raise UserError(
                    f"cannot read policy {self.text!r}: a finite number expected, found {token!r}"
                ) from None
        self.next("[")
        items = [self.value()]
        while self.peek() == ",":
            self.next(",")
            items.append(self.value())
        self.next("]")
        return items

    def arguments(self, names: list[str]) -> dict[str, Any]:
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
            found[name] = self.value()
            if self.peek() != ")":
                self.next(",")
        return found


def parse_policies(text: str) -> list[Policy]:
    """Return every policy of a (grid) text, in the order in which the lists are written, last list fastest."""
    reader = _Reader(text)
    definition = find_function(reader.next())
    arguments: dict[str, Any] = {}
    if reader.peek() == "(":
        reader.next("(")
        arguments = reader.arguments([p.name for p in definition.parameters])
        reader.next(")")
    if reader.peek():
        raise UserError(f"cannot read policy {text!r}: {reader.peek()!r} after its end")
    lists = {p.name for p in definition.parameters if p.kind == "lengths"}

    def choices(name: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            return [value]
        if name in lists:
            return value if all(isinstance(item, list) for item in value) else [value]
        return value

    axes = [[(name, choice) for choice in choices(name, value)] for name, value in arguments.items()]
    return [Policy.make(definition.name, **dict(point)) for point in itertools.product(*axes)]
