"""A policy: an LR function with its parameters, as an immutable value."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies.aliases import ALIASES, Alias
from lrensemble.policies.registry import FUNCTIONS, Function, Value
from lrensemble.policies.units import Length, format_number

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from lrensemble.policies.scheduler import PolicyLR

_ARRAY = np.ndarray  # a global is found faster than an attribute


def find_definition(name: str) -> Function | Alias:
    """Return the LR function, or the alias, called `name` (any case); `UserError` with the nearest name."""
    found = FUNCTIONS.get(name.upper()) or ALIASES.get(name.upper())
    if found is None:
        raise UserError(f"unknown LR policy {name!r}: {did_you_mean(name, [*FUNCTIONS, *ALIASES])}")
    return found


@dataclass(frozen=True)
class Policy:
    """LR as a function of the optimizer step.

    Frozen, hashable, comparable and picklable; calling it has no side effect, so that any order of steps gives
    the same values. Build one with `Policy.make`, `Policy.parse`, `Policy.from_dict` or `Policy.from_lrbench`, which
    validate.

    >>> Policy.parse("TRI(k0=0.1, k1=0.01, l=5e)").bind(steps_per_epoch=100, total_steps=2000)(500)
    0.1
    """

    function: str
    parameters: tuple[tuple[str, Value], ...]  # in the order of the function's definition, defaults included

    @classmethod
    def make(cls, function: str, **parameters: Any) -> Policy:
        """Build and validate. Lengths: numbers (steps), ``"10e"``, ``"50%"`` or `Length`; policies or their text."""
        definition = find_definition(function)
        known = {p.name: p for p in definition.parameters}
        for name in parameters:
            if name not in known:
                raise UserError(f"{definition.name}: unknown parameter {name!r}: {did_you_mean(name, known)}")
        values = {}
        for parameter in definition.parameters:
            if parameter.name in parameters:
                values[parameter.name] = parameter.check(definition.name, parameters[parameter.name])
            elif parameter.default is not None:
                values[parameter.name] = parameter.default
            else:
                raise UserError(
                    f"{definition.name}: {parameter.name} is missing ({parameter.meaning}; {parameter.allowed})"
                )
        if isinstance(definition, Alias):
            return definition.expand(**values)
        definition.check(values)
        return cls(definition.name, tuple(values.items()))

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Parse the text form, e.g. ``STEP(k0=0.1, gamma=0.1, l=30e)``; inverse of ``str(policy)``."""
        from lrensemble.policies.text import Space

        return Space.parse(text, most=1).grid()[0]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """Inverse of `to_dict`."""
        if "policy" not in data:
            raise UserError(f"a policy needs the key 'policy': {dict(data)!r}")
        return cls.make(str(data["policy"]), **{str(k): v for k, v in data.items() if k != "policy"})

    @classmethod
    def from_lrbench(
        cls, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]], boundaries: Sequence[float] = ()
    ) -> Policy:
        """The policy of an LRBench dictionary (or of its ``piecewiseLR``: several and their boundaries in steps).

        ``{'lrPolicy': 'TRI2', 'k0': 0.01, 'k1': 0.1, 'l': 500}`` gives LRBench's numbers, except where its code has a
        defect (`lrensemble.policies.lrbench` lists them).
        """
        from lrensemble.policies.from_lrbench import from_lrbench

        return from_lrbench(parameters, boundaries)

    def to_dict(self) -> dict[str, Any]:
        """JSON form: the function's name under ``policy``, numbers as numbers, lengths as text, policies as dicts."""

        def plain(value: Value) -> Any:
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            if isinstance(value, Policy):
                return value.to_dict()
            return str(value) if isinstance(value, Length) else value

        return {"policy": self.function, **{name: plain(value) for name, value in self._given()}}

    def __str__(self) -> str:
        def text(value: Value) -> str:
            if isinstance(value, tuple):
                return f"[{', '.join(map(text, value))}]" if _has_policies(value) else f"[{','.join(map(text, value))}]"
            return format_number(value) if isinstance(value, float) else str(value)

        return f"{self.function}({', '.join(f'{name}={text(value)}' for name, value in self._given())})"

    def _given(self) -> list[tuple[str, Value]]:
        """The parameters that differ from their defaults."""
        defaults = {p.name: p.default for p in FUNCTIONS[self.function].parameters}
        return [(name, value) for name, value in self.parameters if value != defaults[name]]

    def __getitem__(self, name: str) -> Value:
        return dict(self.parameters)[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return Policy, (self.function, self.parameters)  # without what was prepared for calling it

    @functools.cached_property
    def is_bound(self) -> bool:
        """True when every length is in steps, so that the policy can be called."""
        values = [item for _, value in self.parameters for item in (value if isinstance(value, tuple) else (value,))]
        return all(value.unit == "" for value in values if isinstance(value, Length)) and all(
            value.is_bound for value in values if isinstance(value, Policy)
        )

    def bind(self, *, steps_per_epoch: int, total_steps: float) -> Policy:
        """Return the same policy with every length in optimizer steps.

        A policy inside another one is bound to the steps that it has there: after a warm-up, in its piece.
        """
        if steps_per_epoch < 1 or total_steps < 1:
            raise ValueError(f"{steps_per_epoch=} and {total_steps=} must be at least 1")

        def bound(value: Value) -> Value:
            if isinstance(value, tuple):
                return tuple(bound(item) for item in value)
            return value.in_steps(steps_per_epoch, total_steps) if isinstance(value, Length) else value

        definition = FUNCTIONS[self.function]
        values = {name: bound(value) for name, value in self.parameters}
        budgets = definition.inner_budgets(values, total_steps)

        def bind_inner(name: str, value: Value) -> Value:
            if isinstance(value, tuple):
                totals = budgets.get(name, [total_steps] * len(value))
                return tuple(
                    item.bind(steps_per_epoch=steps_per_epoch, total_steps=total) if isinstance(item, Policy) else item
                    for item, total in zip(value, totals, strict=True)
                )
            if isinstance(value, Policy):
                return value.bind(steps_per_epoch=steps_per_epoch, total_steps=budgets.get(name, [total_steps])[0])
            return value

        values = {name: bind_inner(name, value) for name, value in values.items()}
        definition.check(values)  # lengths of different units can be compared now
        return Policy(self.function, tuple(values.items()))

    @overload
    def __call__(self, step: int | float) -> float: ...
    @overload
    def __call__(self, step: NDArray[Any]) -> NDArray[np.float64]: ...
    def __call__(self, step: Any) -> Any:
        """Return the LR at optimizer step `step` (>= 0; the first step is 0): a float, or an array of its shape."""
        # Training loops call this in every step: the class of an int is the fastest thing to ask for.
        if step.__class__ is int or not isinstance(step, _ARRAY):
            if step < 0:
                raise ValueError(f"step must be >= 0, not {step}")
            return self._on_numbers(step)
        if np.min(step, initial=0) < 0:
            raise ValueError(f"step must be >= 0, not {step.min()}")
        return self._on_arrays(step)

    @functools.cached_property
    def _on_numbers(self) -> Callable[[Any], Any]:
        return self._prepare(math)

    @functools.cached_property
    def _on_arrays(self) -> Callable[[Any], Any]:
        return self._prepare(np)

    def _prepare(self, m: Any) -> Callable[[Any], Any]:
        """The LR as a function of the step, with the functions of module `m`."""
        if not self.is_bound:
            raise UserError(f"{self} has lengths in epochs or shares: bind(steps_per_epoch=..., total_steps=...) first")

        def ready(value: Value) -> Any:
            if isinstance(value, tuple):
                return tuple(ready(item) for item in value)
            if isinstance(value, Policy):
                return value._prepare(m)
            return value.value if isinstance(value, Length) else value

        return FUNCTIONS[self.function].make(m, **{name: ready(value) for name, value in self.parameters})

    def scheduler(
        self,
        optimizer: Optimizer,
        *,
        steps_per_epoch: int | None = None,
        total_steps: int | None = None,
        momentum: tuple[float, float] | None = None,
    ) -> PolicyLR:
        """Return a torch ``LRScheduler`` that follows this policy; call its ``step()`` after every optimizer step.

        `steps_per_epoch` and `total_steps` are needed when the policy has lengths in epochs or shares. `momentum`
        (low, high) moves the momentum against the LR: high at the lowest LR of the policy, low at the highest, as
        torch's OneCycleLR and CyclicLR do.
        """
        from lrensemble.policies.scheduler import PolicyLR

        policy = self
        if not self.is_bound:
            if steps_per_epoch is None or total_steps is None:
                raise UserError(f"{self} has lengths in epochs or shares: give steps_per_epoch and total_steps")
            policy = self.bind(steps_per_epoch=steps_per_epoch, total_steps=total_steps)
        return PolicyLR(optimizer, policy, momentum=momentum, total_steps=total_steps)


def _has_policies(value: tuple[Any, ...]) -> bool:
    return any(isinstance(item, Policy) for item in value)
