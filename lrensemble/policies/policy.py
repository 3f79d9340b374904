"""A policy: an LR function with its parameters, as an immutable value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies.functions import FUNCTIONS, Function, Value
from lrensemble.policies.units import Length, format_number

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from lrensemble.policies.scheduler import PolicyLR


def find_function(name: str) -> Function:
    """Return the LR function called `name` (any case); raise `UserError` with the nearest name."""
    try:
        return FUNCTIONS[name.upper()]
    except KeyError:
        raise UserError(f"unknown LR policy {name!r}: {did_you_mean(name, FUNCTIONS)}") from None


@dataclass(frozen=True)
class Policy:
    """LR as a function of the optimizer step.

    Frozen, hashable, comparable and picklable; calling it has no side effect, so that any order of steps gives
    the same values. Build one with `Policy.make`, `Policy.parse` or `Policy.from_dict`, which validate.

    >>> Policy.parse("TRI(k0=0.1, k1=0.01, l=5e)").bind(steps_per_epoch=100, total_steps=2000)(500)
    0.1
    """

    function: str
    parameters: tuple[tuple[str, Value], ...]  # in the order of the function's definition, defaults included

    @classmethod
    def make(cls, function: str, **parameters: Any) -> Policy:
        """Build and validate. Lengths: numbers (steps), ``"10e"``, ``"50%"`` or `Length`."""
        definition = find_function(function)
        known = {p.name: p for p in definition.parameters}
        for name in parameters:
            if name not in known:
                raise UserError(f"{definition.name}: unknown parameter {name!r}: {did_you_mean(name, known)}")
        values = []
        for parameter in definition.parameters:
            if parameter.name in parameters:
                value = parameter.check(definition.name, parameters[parameter.name])
            elif parameter.default is not None:
                value = parameter.default
            else:
                raise UserError(
                    f"{definition.name}: {parameter.name} is missing ({parameter.meaning}; {parameter.allowed})"
                )
            values.append((parameter.name, value))
        return cls(definition.name, tuple(values))

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Parse the text form, e.g. ``STEP(k0=0.1, gamma=0.1, l=30e)``; inverse of ``str(policy)``."""
        from lrensemble.policies.text import parse_policies

        policies = parse_policies(text)
        if len(policies) != 1:
            raise UserError(f"{text!r} is a grid of {len(policies)} policies where one is needed")
        return policies[0]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """Inverse of `to_dict`."""
        if "policy" not in data:
            raise UserError(f"a policy needs the key 'policy': {dict(data)!r}")
        return cls.make(str(data["policy"]), **{str(k): v for k, v in data.items() if k != "policy"})

    def to_dict(self) -> dict[str, Any]:
        """JSON form: the function's name under ``policy``, numbers as numbers, lengths as text with their unit."""

        def plain(value: Value) -> Any:
            if isinstance(value, tuple):
                return [str(item) for item in value]
            return str(value) if isinstance(value, Length) else value

        return {"policy": self.function, **{name: plain(value) for name, value in self._given()}}

    def __str__(self) -> str:
        def text(value: Value) -> str:
            if isinstance(value, tuple):
                return f"[{','.join(map(str, value))}]"
            return str(value) if isinstance(value, Length) else format_number(value)

        return f"{self.function}({', '.join(f'{name}={text(value)}' for name, value in self._given())})"

    def _given(self) -> list[tuple[str, Value]]:
        """The parameters that differ from their defaults."""
        defaults = {p.name: p.default for p in FUNCTIONS[self.function].parameters}
        return [(name, value) for name, value in self.parameters if value != defaults[name]]

    def __getitem__(self, name: str) -> Value:
        return dict(self.parameters)[name]

    @property
    def is_bound(self) -> bool:
        """True when every length is in steps, so that the policy can be called."""
        return all(
            length.unit == ""
            for _, value in self.parameters
            for length in (value if isinstance(value, tuple) else (value,))
            if isinstance(length, Length)
        )

    def bind(self, *, steps_per_epoch: int, total_steps: int) -> Policy:
        """Return the same policy with every length in optimizer steps."""
        if steps_per_epoch < 1 or total_steps < 1:
            raise ValueError(f"{steps_per_epoch=} and {total_steps=} must be at least 1")

        def bound(value: Value) -> Value:
            if isinstance(value, tuple):
                lengths = tuple(length.in_steps(steps_per_epoch, total_steps) for length in value)
                return tuple(sorted(lengths, key=lambda length: length.value))
            return value.in_steps(steps_per_epoch, total_steps) if isinstance(value, Length) else value

        return Policy(self.function, tuple((name, bound(value)) for name, value in self.parameters))

    @overload
    def __call__(self, step: int | float) -> float: ...
    @overload
    def __call__(self, step: NDArray[Any]) -> NDArray[np.float64]: ...
    def __call__(self, step: int | float | NDArray[Any]) -> float | NDArray[np.float64]:
        """Return the LR at optimizer step `step` (>= 0; the first step is 0): a float, or an array of its shape."""
        if not self.is_bound:
            raise UserError(f"{self} has lengths in epochs or shares: bind(steps_per_epoch=..., total_steps=...) first")
        is_array = isinstance(step, np.ndarray)
        if np.min(step, initial=0) < 0 if is_array else step < 0:
            raise ValueError(f"step must be >= 0, not {step}")
        values: dict[str, Any] = {
            name: value.value
            if isinstance(value, Length)
            else tuple(length.value for length in value)
            if isinstance(value, tuple)
            else value
            for name, value in self.parameters
        }
        k0, k1 = values.pop("k0"), values.pop("k1", 0.0)
        g = FUNCTIONS[self.function].g(step, np if is_array else math, **values)
        lr = abs(k0 - k1) * g + min(k0, k1)
        return lr if is_array else float(lr)

    def scheduler(
        self,
        optimizer: Optimizer,
        *,
        steps_per_epoch: int | None = None,
        total_steps: int | None = None,
    ) -> PolicyLR:
        """Return a torch ``LRScheduler`` that follows this policy; call its ``step()`` after every optimizer step.

        `steps_per_epoch` and `total_steps` are needed when the policy has lengths in epochs or shares.
        """
        from lrensemble.policies.scheduler import PolicyLR

        policy = self
        if not self.is_bound:
            if steps_per_epoch is None or total_steps is None:
                raise UserError(f"{self} has lengths in epochs or shares: give steps_per_epoch and total_steps")
            policy = self.bind(steps_per_epoch=steps_per_epoch, total_steps=total_steps)
        return PolicyLR(optimizer, policy)
