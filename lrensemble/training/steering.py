"""The LR of a run, step by step: from a policy, or from a controller that sees how the run goes."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from lrensemble.policies.control import Controlled, Probing, controller_of, parse_schedule, trace_policy


class Steering:
    """Sets the LR of every parameter group: the schedule's, times the LR that the group was built with (1 for most).

    Parameters
    ----------
    text : str
        A policy or a controlled schedule.
    steps_per_epoch, total_steps : int
        The budget.
    """

    def __init__(self, optimizer: Optimizer, text: str, *, steps_per_epoch: int, total_steps: int) -> None:
        schedule = parse_schedule(text).bind(steps_per_epoch=steps_per_epoch, total_steps=total_steps)
        self.optimizer, self.controller, self.steps_per_epoch = optimizer, controller_of(schedule), steps_per_epoch
        self.is_controlled = isinstance(schedule, Controlled)
        self.ratios = [group["lr"] for group in optimizer.param_groups]
        self.steps = 0  # made so far
        self._changes: list[tuple[int, float]] = []  # of a controlled run: from which step on it had which LR
        self._loss: float | Tensor = 0.0  # the sum since the last look ...
        self._losses = 0  # ... of so many steps
        self._set()

    def step(self) -> None:
        """An optimizer step was made."""
        self.steps += 1
        self._set()

    def begin(self, probing: Probing) -> None:
        """The first step is next."""
        self.controller.begin(probing)
        self._set()

    def observe(self, loss: Tensor | None, probing: Probing) -> None:
        """Take the loss of the step that was made last, and show the controller their mean when it is time."""
        if not self.controller.looks:
            return
        if loss is not None:
            self._loss = self._loss + loss  # on the device: nothing waits for it
            self._losses += 1
        if self.steps % self.controller.looks == 0 or self.steps % self.steps_per_epoch == 0:
            self._show(probing)

    def look(self, probing: Probing) -> None:
        """Show the controller the losses that it has not seen."""
        if self._losses:
            self._show(probing)

    def _show(self, probing: Probing) -> None:
        mean = float(self._loss) / self._losses if self._losses else None
        self._loss, self._losses = 0.0, 0
        self.controller.observe(self.steps - 1, mean, probing)
        self._set()

    def after_epoch(self, line: Mapping[str, Any]) -> None:
        """Show the controller an epoch's line of the history."""
        self.controller.after_epoch(self.steps, line)
        self._set()

    def lr(self, step: int) -> float:
        """The LR that a step up to now had."""
        if not self.is_controlled:
            return float(self.controller.lr(step))
        return self._changes[bisect.bisect_right(self._changes, step, key=lambda change: change[0]) - 1][1]

    def apply(self, lr: float) -> None:
        """Give the groups an LR, times their ratios."""
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            group["lr"] = lr * ratio

    @property
    def trace(self) -> str | None:
        """The policy that gives a controlled run's LRs again, bit for bit; None where the schedule is a policy."""
        return str(trace_policy(self._changes)) if self.is_controlled else None

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "steps": self.steps,
            "controller": self.controller.state(),
            "changes": list(map(list, self._changes)),
            "seen": [float(self._loss), self._losses],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`; also from that of a torch scheduler, which counts its steps as ``last_epoch``."""
        if "last_epoch" in state:
            self.steps = int(state["last_epoch"])
        else:
            self.steps = int(state["steps"])
            self._changes = [(int(step), lr) for step, lr in state["changes"]]
            self.controller.load(state["controller"])
            self._loss, self._losses = state.get("seen", (0.0, 0))
        self._set()

    def _set(self) -> None:
        lr = self.controller.lr(self.steps)
        if self.is_controlled and (not self._changes or self._changes[-1][1] != lr):
            if self._changes and self._changes[-1][0] == self.steps:
                self._changes.pop()  # nobody has seen that LR
            self._changes.append((self.steps, lr))
        self.apply(lr)
