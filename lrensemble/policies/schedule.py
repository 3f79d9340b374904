"""What is written as ``NAME(parameter=value, ...)``: an immutable value with a text form and a JSON form."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies.registry import Alias, Definition, Value, find_definition
from lrensemble.policies.text import Call, singles
from lrensemble.policies.units import Length, format_number


@dataclass(frozen=True)
class Schedule:
    """A name with its parameters: what policies and controllers have in common."""

    function: str
    parameters: tuple[tuple[str, Value], ...]  # in the order of the definition, defaults included

    @classmethod
    def make(cls, function: str, **parameters: Any) -> Self:
        """Build and validate. Lengths: numbers (steps), ``"10e"``, ``"50%"`` or `Length`; policies or their text."""
        definition = cls._defined(function)
        known = {p.name: p for p in definition.parameters}
        for name in parameters:
            if name not in known:
                raise UserError(f"{definition.name}: unknown parameter {name!r}: {did_you_mean(name, known)}")
        values = {}
        for parameter in definition.parameters:
            if parameter.name in parameters:
                values[parameter.name] = parameter.check(definition.name, parameters[parameter.name], cls._inner)
            elif parameter.default is not None:
                values[parameter.name] = parameter.default
            else:
                raise UserError(
                    f"{definition.name}: {parameter.name} is missing ({parameter.meaning}; {parameter.allowed})"
                )
        if isinstance(definition, Alias):
            return cls.from_dict(definition.expand(**values))
        definition.check(values)
        return cls(definition.name, tuple(values.items()))

    @classmethod
    def _defined(cls, name: str) -> Definition:
        """What is called `name`; `UserError` when it is not of this class."""
        return find_definition(name)

    @classmethod
    def _inner(cls, value: Any) -> Schedule:
        """A policy among the parameters, of whatever stands for one."""
        return cls.of(value)

    @classmethod
    def of(cls, value: Any) -> Self:
        """What a text, its JSON form or a read call stands for; TypeError for anything else."""
        if isinstance(value, str):
            return cls.parse(value)
        if isinstance(value, Mapping):
            return cls.from_dict(value)
        if isinstance(value, Call):
            return cls.make(value.name, **value.arguments)
        if not isinstance(value, cls):
            raise TypeError(f"{value} is no {cls.__name__.lower()}")
        return value

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text form, e.g. ``STEP(k0=0.1, gamma=0.1, l=30e)``; inverse of ``str``."""
        return cls.of(singles(text, 1)[0])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        if "policy" not in data:
            raise UserError(f"a policy needs the key 'policy': {dict(data)!r}")
        return cls.make(str(data["policy"]), **{str(k): v for k, v in data.items() if k != "policy"})

    def to_dict(self) -> dict[str, Any]:
        """JSON form: the function's name under ``policy``, numbers as numbers, lengths as text, policies as dicts."""

        def plain(value: Value) -> Any:
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            if isinstance(value, Schedule):
                return value.to_dict()
            return str(value) if isinstance(value, Length) else value

        return {"policy": self.function, **{name: plain(value) for name, value in self._given()}}

    def __str__(self) -> str:
        def text(value: Value) -> str:
            if isinstance(value, tuple):
                comma = ", " if any(isinstance(item, Schedule) for item in value) else ","
                return f"[{comma.join(map(text, value))}]"
            return format_number(value) if isinstance(value, float) else str(value)

        return f"{self.function}({', '.join(f'{name}={text(value)}' for name, value in self._given())})"

    def _given(self) -> list[tuple[str, Value]]:
        """The parameters that differ from their defaults."""
        defaults = {p.name: p.default for p in find_definition(self.function).parameters}
        return [(name, value) for name, value in self.parameters if value != defaults[name]]

    def __getitem__(self, name: str) -> Value:
        return dict(self.parameters)[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.function, self.parameters)  # without what was prepared for calling it

    @functools.cached_property
    def is_bound(self) -> bool:
        """True when every length is in steps, so that the policy can be called."""
        return self.units <= {""}

    @property
    def units(self) -> set[str]:
        """Of its lengths, and of those of the policies in it: "" (steps), "e", "%"."""
        values = [item for _, value in self.parameters for item in (value if isinstance(value, tuple) else (value,))]
        own = {value.unit for value in values if isinstance(value, Length)}
        return own.union(*(value.units for value in values if isinstance(value, Schedule)))

    def bind(self, *, steps_per_epoch: int, total_steps: float) -> Self:
        """Return the same policy with every length in optimizer steps.

        A policy inside another one is bound to the steps that it has there: after a warm-up, in its piece.
        """
        if steps_per_epoch < 1 or total_steps < 1:
            raise ValueError(f"{steps_per_epoch=} and {total_steps=} must be at least 1")

        def bound(value: Value) -> Value:
            if isinstance(value, tuple):
                return tuple(bound(item) for item in value)
            return value.in_steps(steps_per_epoch, total_steps) if isinstance(value, Length) else value

        definition = find_definition(self.function)
        values = {name: bound(value) for name, value in self.parameters}
        budgets = definition.inner_budgets(values, total_steps)

        def bind_inner(name: str, value: Value) -> Value:
            if isinstance(value, tuple):
                totals = budgets.get(name, [total_steps] * len(value))
                return tuple(
                    item.bind(steps_per_epoch=steps_per_epoch, total_steps=total)
                    if isinstance(item, Schedule)
                    else item
                    for item, total in zip(value, totals, strict=True)
                )
            if isinstance(value, Schedule):
                return value.bind(steps_per_epoch=steps_per_epoch, total_steps=budgets.get(name, [total_steps])[0])
            return value

        values = {name: bind_inner(name, value) for name, value in values.items()}
        definition.check(values)  # lengths of different units can be compared now
        return type(self)(self.function, tuple(values.items()))
