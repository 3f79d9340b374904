"""A policy: an LR function with its parameters, as an immutable value."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError
from lrensemble.notebook import block, curve, line
from lrensemble.policies.lrbench import from_lrbench
from lrensemble.policies.registry import LR, Control, Definition, Function, Value, find_definition
from lrensemble.policies.schedule import Schedule
from lrensemble.policies.units import Length

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from lrensemble.policies.scheduler import PolicyLR

BLOCK = 512  # steps that are computed at once: little more work than one
KEPT = 4 * BLOCK
SHOWN = (20, 100)  # epochs, and steps of each, of a budget that a notebook shows a policy over
CURVE = 500  # steps that it evaluates
PIECE = 1 << 15  # steps of an array that are computed at once: what is in between stays in the processor's cache


@dataclass(frozen=True)
class Policy(Schedule):
    """LR as a function of the optimizer step.

    Frozen, hashable, comparable and picklable; calling it has no side effect, so that any order of steps gives
    the same values. Build one with `Policy.make`, `Policy.parse`, `Policy.from_dict` or `Policy.from_lrbench`, which
    validate.

    >>> Policy.parse("TRI(k0=0.1, k1=0.01, l=5e)").bind(steps_per_epoch=100, total_steps=2000)(500)
    0.1
    """

    @classmethod
    def _defined(cls, name: str) -> Definition:
        definition = find_definition(name)
        if isinstance(definition, Control):
            raise UserError(
                f"{definition.name} is a controller: it sets the LR by what training shows, where a policy is needed, "
                "a function of the step"
            )
        return definition

    @classmethod
    def from_lrbench(
        cls, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]], boundaries: Sequence[float] = ()
    ) -> Policy:
        """The policy of an LRBench dictionary (or of its ``piecewiseLR``: several and their boundaries in steps).

        ``{'lrPolicy': 'TRI2', 'k0': 0.01, 'k1': 0.1, 'l': 500}`` gives LRBench's numbers, except where its code has a
        defect (`lrensemble.policies.lrbench` lists them).
        """
        return cls.from_dict(from_lrbench(parameters, boundaries))

    @overload
    def __call__(self, step: int | float) -> float: ...
    @overload
    def __call__(self, step: NDArray[Any]) -> NDArray[np.float64]: ...
    def __call__(self, step: Any) -> Any:
        """Return the LR at optimizer step `step` (>= 0; the first step is 0): a float, or an array of its shape."""
        try:
            return self._table[step]  # nothing is faster, and training loops call this in every step
        except (KeyError, TypeError):  # not there, or an array
            pass
        if isinstance(step, np.ndarray):
            return self._values(step)
        try:
            index = int(operator.index(step))
        except TypeError:  # between two steps
            return float(self._values(np.array([float(step)]))[0])
        if index < 0:
            raise ValueError(f"step must be >= 0, not {index}")
        first = index // BLOCK * BLOCK
        values = self._values(np.arange(first, first + BLOCK))
        if not 0 <= values.min() <= values.max() < np.inf:  # a function of another package
            raise UserError(f"{self}: LRs from {values.min():g} to {values.max():g} in the steps from {first} on")
        lrs = values.tolist()
        if len(self._table) >= KEPT:
            self._table.clear()
        self._table.update(zip(range(first, first + BLOCK), lrs, strict=True))
        lr: float = lrs[index - first]
        return lr

    def _repr_html_(self) -> str:
        """Its curve: of a policy with lengths in epochs or shares over `SHOWN`, else over as many steps as that is."""
        epochs, per_epoch = SHOWN
        total = epochs * per_epoch
        policy = self if self.is_bound else self.bind(steps_per_epoch=per_epoch, total_steps=total)
        steps = np.linspace(0, total - 1, CURVE).astype(np.int64)
        lrs = policy(steps)
        budget = f"{total:,} steps" if self.is_bound else f"a budget of {epochs} epochs of {per_epoch} steps"
        words = f"LR from 0 to {lrs.max():.3g} over {budget}; at its end {lrs[-1]:.3g}"
        return block(str(self), curve(lrs.tolist(), f"{self}: {words}", zero=True), line(words))

    @functools.cached_property
    def _table(self) -> dict[int, float]:
        """Step -> LR, some blocks of steps: values that would be computed again, so a policy stays a pure value."""
        return {}

    def _values(self, steps: NDArray[Any]) -> NDArray[np.float64]:
        flat, lrs = steps.reshape(-1), np.empty(steps.size)
        for i in range(0, flat.size, PIECE):
            t = flat[i : i + PIECE].astype(np.float64)
            if t.min() < 0:
                raise ValueError(f"step must be >= 0, not {steps.min()}")
            values = self._lr(t)
            if np.shape(values) != t.shape:
                raise UserError(f"{self.function}: {t.size} steps gave LRs of shape {np.shape(values)}")
            lrs[i : i + PIECE] = values
        return lrs.reshape(steps.shape)

    @functools.cached_property
    def _lr(self) -> LR:
        """The LR as a function of an array of steps."""
        if not self.is_bound:
            raise UserError(f"{self} has lengths in epochs or shares: bind(steps_per_epoch=..., total_steps=...) first")

        definition = find_definition(self.function)
        assert isinstance(definition, Function)

        def ready(value: Value) -> Any:
            if isinstance(value, tuple):
                return tuple(ready(item) for item in value)
            if isinstance(value, Policy):
                return value._lr
            return value.value if isinstance(value, Length) else value

        return functools.partial(definition.lr, **{name: ready(value) for name, value in self.parameters})

    def scheduler(
        self,
        optimizer: Optimizer,
        *,
        steps_per_epoch: int | None = None,
        total_steps: int | None = None,
        momentum: tuple[float, float] | None = None,
        base_lr: float | None = None,
        on_change: Literal["refuse", "new"] = "refuse",
    ) -> PolicyLR:
        """Return a torch ``LRScheduler`` that follows this policy; call its ``step()`` after every optimizer step.

        `steps_per_epoch` and `total_steps` are needed when the policy has lengths in epochs or shares. `momentum`
        (low, high) moves the momentum against the LR: high at the lowest LR of the policy, low at the highest, as
        torch's OneCycleLR and CyclicLR do. `base_lr` and `on_change`: see `PolicyLR`.
        """
        from lrensemble.policies.scheduler import PolicyLR

        return PolicyLR(
            optimizer,
            self,
            steps_per_epoch=steps_per_epoch,
            total_steps=total_steps,
            momentum=momentum,
            base_lr=base_lr,
            on_change=on_change,
        )
