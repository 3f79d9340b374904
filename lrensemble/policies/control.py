"""Controllers: what says the next LR while training, from what it has seen.

A controlled schedule is written as a policy is, ``PLATEAU(k0=0.1, patience=5)``, but is no function of the step. Its
run leaves one behind all the same: `trace_policy` of the LRs that it chose replays them bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrensemble.errors import UserError
from lrensemble.plugins import home_of
from lrensemble.policies.policy import Policy
from lrensemble.policies.registry import (
    CONTROLS,
    DEFINITIONS,
    Control,
    Definition,
    Parameter,
    check_name,
    find_definition,
)
from lrensemble.policies.schedule import Schedule
from lrensemble.policies.text import Call, singles

Probe = Callable[[Sequence[float]], list[float]]  # this batch's loss after a step with each LR; nothing is changed


class Controller:
    """Says the LR of every step. The training loop calls, in this order and with steps from 0 on:

    - ``lr(step)`` before an optimizer step, as often as it likes for the same one;
    - ``observe(step, loss, probe)`` after that step, where `looks` > 0 and `step` + 1 is a multiple of it;
    - ``after_epoch(step, line)`` with the steps made so far and the epoch's line of the history.

    A subclass keeps what it knows in ``self.known``, plain values by name, so that `state` and `load` resume exactly.
    """

    looks = 0  # steps between two looks at the loss; 0: after epochs only

    def __init__(self, **known: Any) -> None:
        self.known = known

    def lr(self, step: int) -> float:
        raise NotImplementedError

    def observe(self, step: int, loss: float, probe: Probe) -> None:
        """See the loss of a step."""

    def after_epoch(self, step: int, line: Mapping[str, Any]) -> None:
        """See an epoch's line."""

    def state(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, list) else value for name, value in self.known.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`; `UserError` when it is of another kind of controller."""
        if set(state) != set(self.known):
            raise UserError(
                f"the state of a controller has {', '.join(sorted(state)) or 'nothing'}, "
                f"{type(self).__name__} needs {', '.join(sorted(self.known)) or 'nothing'}"
            )
        self.known = {name: list(value) if isinstance(value, list) else value for name, value in state.items()}


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


def trace_policy(changes: Sequence[tuple[int, float]]) -> Policy:
    """The policy of a run's (step, LR) pairs, ascending from step 0, one wherever the LR changed: equal bits.

    >>> str(trace_policy([(0, 0.1), (1, 0.1), (40, 0.01)]))
    'POINTS(at=[0,40], k=[0.1,0.01], between=hold)'
    """
    kept: list[tuple[int, float]] = []
    for step, lr in changes:
        if not kept or lr != kept[-1][1]:
            kept.append((int(step), lr))
    return Policy.make("POINTS", at=[step for step, _ in kept], k=[lr for _, lr in kept], between="hold")


def register_control(name: str, formula: str, source: str, *parameters: Parameter) -> Callable[[Any], Any]:
    """Add the decorated class or function, which makes a `Controller` of the parameters."""

    def add(make: Callable[..., Controller]) -> Callable[..., Controller]:
        check_name(name, make, [p.name for p in parameters])
        made = Control(name=name, formula=formula, source=source, parameters=parameters, make=make)
        DEFINITIONS.add(name, made, home_of(make))
        CONTROLS[name] = made
        return make

    return add


WATCHED = ("val_loss", "val_accuracy", "train_loss", "train_accuracy")


@register_control(
    "PLATEAU",
    "LR = k0, times factor whenever the watched value has not improved for more than `patience` epochs",
    "torch ReduceLROnPlateau",
    Parameter("k0", "LR at the start"),
    Parameter("factor", "of the LR at every reduction", high=1.0, low_open=True, default=0.1),
    Parameter("patience", "epochs without improvement that are waited for", default=10.0),
    Parameter("threshold", "an improvement is more than this", default=1e-4),
    Parameter(
        "scale",
        "of the threshold: a share of the best value, or a difference",
        "word",
        words=("rel", "abs"),
        default="rel",
    ),
    Parameter("cooldown", "epochs after a reduction that do not count", default=0.0),
    Parameter("min_lr", "the LR never falls below", default=0.0),
    Parameter("watch", "value of the history", "word", words=WATCHED, default="val_loss"),
    Parameter(
        "mode",
        "whether a lower or a higher value is better; auto: higher for accuracies",
        "word",
        words=("auto", "min", "max"),
        default="auto",
    ),
)
class Plateau(Controller):
    """Reduces the LR when a value of the history stops improving, epoch for epoch as torch's ReduceLROnPlateau."""

    EPS = 1e-8  # torch's: a smaller change of the LR is not made

    def __init__(
        self,
        k0: float,
        factor: float,
        patience: float,
        threshold: float,
        scale: str,
        cooldown: float,
        min_lr: float,
        watch: str,
        mode: str,
    ) -> None:
        self.factor, self.patience, self.cooldown, self.min_lr, self.watch = factor, patience, cooldown, min_lr, watch
        self.threshold, self.relative = threshold, scale == "rel"
        self.higher = mode == "max" or (mode == "auto" and watch.endswith("accuracy"))
        super().__init__(lr=k0, best=-math.inf if self.higher else math.inf, bad=0, cooling=0)

    def lr(self, step: int) -> float:
        lr: float = self.known["lr"]
        return lr

    def after_epoch(self, step: int, line: Mapping[str, Any]) -> None:
        if self.watch not in line:
            raise UserError(f"PLATEAU watches {self.watch}, the history has {', '.join(sorted(line))}")
        now, value = self.known, float(line[self.watch])
        if self._is_better(value, now["best"]):
            now |= {"best": value, "bad": 0}
        else:
            now["bad"] += 1
        if now["cooling"] > 0:
            now |= {"cooling": now["cooling"] - 1, "bad": 0}
        if now["bad"] > self.patience:
            lower = max(now["lr"] * self.factor, self.min_lr)
            if now["lr"] - lower > self.EPS:
                now["lr"] = lower
            now |= {"cooling": self.cooldown, "bad": 0}

    def _is_better(self, value: float, best: float) -> bool:
        sign = 1 if self.higher else -1
        if self.relative:
            return sign * value > sign * best * (1 + sign * self.threshold)
        return sign * value > sign * (best + sign * self.threshold)
