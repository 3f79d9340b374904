"""Controllers: what says the next LR while training, from what it has seen.

A controlled schedule is written as a policy is, ``PLATEAU(k0=0.1, patience=5)``, but is no function of the step. Its
run leaves one behind all the same: `trace_policy` of the LRs that it chose replays them bit for bit.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lrensemble.errors import UserError
from lrensemble.plugins import home_of
from lrensemble.policies.lines import bends
from lrensemble.policies.policy import Policy
from lrensemble.policies.registry import (
    CONTROLS,
    DEFINITIONS,
    Control,
    Definition,
    Parameter,
    check_name,
    find_definition,
    nothing_more,
)
from lrensemble.policies.schedule import Schedule
from lrensemble.policies.text import Call, singles

CONSTANT = "constant"  # in an epoch's line: the model answers every validation row the same


@dataclass(frozen=True)
class Line:
    """The loss of a fresh batch along the update that an optimizer would make.

    Attributes
    ----------
    before : float
        The loss where the run stands.
    differences : list of float
        What every LR adds to it.
    gain : float
        The update after many equal gradients over the first one: 1 / (1 - momentum) for SGD, 1 for Adam.
    noise : float
        How much `before` differs when it is computed again, with the same rows and random numbers.
    """

    before: float
    differences: list[float]
    gain: float
    noise: float


class Probing(Protocol):
    """What a controller may try on its run. All of it is undone, but `restore`; equal draws are of equal rows."""

    def along(self, lrs: Sequence[float], draw: int) -> Line:
        """The loss of one fresh batch after an update with each LR, made of the gradient of another one."""

    def trial(self, lrs: Sequence[float], draw: int) -> list[float]:
        """The loss before every step of a short training on fresh batches, one step an LR."""

    def keep(self) -> None:
        """Remember weights, buffers and optimizer as they are, until it is known whether they are good."""

    def confirm(self) -> None:
        """What was kept last is good."""

    def restore(self) -> None:
        """Go back to what was confirmed last."""


class Controller:
    """Says the LR of every step. The training loop calls, in this order and with steps from 0 on:

    - ``begin(probing)`` before the first step;
    - ``lr(step)`` before an optimizer step, as often as it likes for the same one;
    - ``observe(step, loss, probing)`` after that step, where `looks` > 0 and `step` + 1 is a multiple of it or ends an
      epoch: `loss` is the mean since the last time, None in a loop that does not say it;
    - ``after_epoch(step, line)`` with the steps made so far and the epoch's line of the history.

    A subclass keeps what it knows in ``self.known``, plain values by name, so that `state` and `load` resume exactly.
    """

    looks = 0  # steps between two looks at the loss; 0: after epochs only
    probes = False  # whether it uses `Probing`

    def __init__(self, **known: Any) -> None:
        self.known = known

    def begin(self, probing: Probing) -> None:
        """The first step is next."""

    def lr(self, step: int) -> float:
        raise NotImplementedError

    def observe(self, step: int, loss: float | None, probing: Probing) -> None:
        """See the loss of the steps since the last look."""

    def after_epoch(self, step: int, line: Mapping[str, Any]) -> None:
        """See an epoch's line."""

    def report(self) -> dict[str, Any]:
        """What it has measured, for the record: plain values."""
        return {}

    def state(self) -> dict[str, Any]:
        return copy.deepcopy(self.known)

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`; `UserError` when it is of another kind of controller."""
        if set(state) != set(self.known):
            raise UserError(
                f"the state of a controller has {', '.join(sorted(state)) or 'nothing'}, "
                f"{type(self).__name__} needs {', '.join(sorted(self.known)) or 'nothing'}"
            )
        self.known = copy.deepcopy(dict(state))


class Following(Controller):
    """The controller of a pure policy: nothing it sees changes the LR."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def lr(self, step: int) -> float:
        return self.policy(step)


@dataclass(frozen=True)
class Controlled(Schedule):
    """A controller's name and parameters: frozen, comparable, with the text and JSON forms of a policy."""

    @classmethod
    def _defined(cls, name: str) -> Definition:
        definition = find_definition(name)
        if not isinstance(definition, Control):
            raise UserError(f"{definition.name} is a policy, where a controller is needed: {', '.join(CONTROLS)}")
        return definition

    @classmethod
    def _inner(cls, value: Any) -> Policy:
        return Policy.of(value)

    @property
    def probes(self) -> bool:
        """Whether its controller tries things on the run."""
        definition = self._defined(self.function)
        assert isinstance(definition, Control)
        return bool(getattr(definition.make, "probes", False))

    def controller(self) -> Controller:
        """A new controller, before its first step; bind lengths first."""
        definition = self._defined(self.function)
        assert isinstance(definition, Control)
        made: Controller = definition.make(**dict(self.parameters))
        return made


def controller_of(schedule: Policy | Controlled) -> Controller:
    """A new controller for either; the schedule is bound."""
    return Following(schedule) if isinstance(schedule, Policy) else schedule.controller()


def parse_schedule(text: str) -> Policy | Controlled:
    """What a text is: a policy or a controlled schedule; `UserError` for a grid (see `parse_schedules`)."""
    return _schedule(singles(text, 1)[0])


def parse_schedules(text: str) -> list[Policy | Controlled]:
    """Every policy or controlled schedule of a (grid) text, last list fastest."""
    return [_schedule(call) for call in singles(text)]


def _schedule(call: Call) -> Policy | Controlled:
    kind = Controlled if isinstance(find_definition(call.name), Control) else Policy
    return kind.of(call)


MOST_POINTS = 10_000  # of a trace: more of them make records and pages of megabytes
NEAR = 1e-6  # of the largest LR: how far a trace with fewer points may be off


def trace_policy(changes: Sequence[tuple[int, float]]) -> Policy:
    """The policy of a run's (step, LR) pairs, ascending from step 0, one wherever the LR changed: equal bits.

    Of more than `MOST_POINTS` changes, straight lines (``between=linear``) that are off by at most `NEAR` times the
    largest LR; by 10 times as much, and so on, where that still takes too many.

    >>> str(trace_policy([(0, 0.1), (1, 0.1), (40, 0.01)]))
    'POINTS(at=[0,40], k=[0.1,0.01], between=hold)'
    """
    kept: list[tuple[int, float]] = []
    for step, lr in changes:
        if not kept or lr != kept[-1][1]:
            kept.append((int(step), lr))
    between, near = "hold", NEAR * max((lr for _, lr in kept), default=0.0)
    if len(kept) > MOST_POINTS:
        between = "linear"
        ends = [(step - 1, lr) for (_, lr), (step, _) in itertools.pairwise(kept)]  # the last steps of every LR
        every = sorted({*kept, *ends})
        while len(kept := [every[i] for i in bends(every, near)]) > MOST_POINTS:
            near *= 10
    return Policy.make("POINTS", at=[step for step, _ in kept], k=[lr for _, lr in kept], between=between)


def register_control(
    name: str,
    formula: str,
    source: str,
    *parameters: Parameter,
    check: Callable[[dict[str, Any]], None] = nothing_more,
) -> Callable[[Any], Any]:
    """Add the decorated class or function, which makes a `Controller` of the parameters."""

    def add(make: Callable[..., Controller]) -> Callable[..., Controller]:
        check_name(name, make, [p.name for p in parameters])
        made = Control(name=name, formula=formula, source=source, parameters=parameters, check=check, make=make)
        DEFINITIONS.add(name, made, home_of(make))
        CONTROLS[name] = made
        return make

    return add
