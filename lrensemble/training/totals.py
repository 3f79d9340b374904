"""Loss, accuracy and time of an epoch, and the end of a run whose loss explodes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lrensemble.training.meter import Meter

if TYPE_CHECKING:
    from lrensemble.training.loop import Run

CHECK_STEPS = 100  # steps between two looks at the loss: each one waits for the device
EXPLODED = 10  # times the loss before the first step, as a mean over those steps: no run comes back from there
FEW_STEPS = 10  # the mean of fewer may be one spike


class Ended(Exception):
    """The run is over before its last epoch: status and reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason


class Totals:
    """Loss, accuracy and time of an epoch; looks at the loss now and then to see it explode.

    The sums are on the device. What they use is divided among the `sharers` of a stack.
    """

    def __init__(self, run: Run, sharers: int = 1) -> None:
        self.run, self.sharers = run, sharers
        self.meter = Meter(run.data.device)
        self.window, self.right = torch.zeros(2, device=run.data.device)
        self.steps = self.window_steps = self.counted = 0
        self.loss_sum = 0.0
        self.lr = 0.0

    def add(self, loss: Tensor, right: Tensor) -> None:
        """Add one step; raise `Ended` when the last `CHECK_STEPS` were too bad."""
        if self.run.first_loss is None:
            self.run.first_loss = loss
        if self._went_back():
            self.window_steps = -1  # this step is undone, too
            loss = torch.zeros_like(loss)
        self.window += loss
        self.right += right
        self.count()

    def _went_back(self) -> bool:
        """Whether a controller has undone what the window saw, which is forgotten then."""
        went_back, self.run.prober.went_back = self.run.prober.went_back, False
        if went_back:
            self.window.zero_()
        return went_back

    def count(self) -> None:
        """Count a step that was added to the sums already, and look at them when it is time."""
        self.steps += 1
        self.window_steps += 1
        if self.window_steps == CHECK_STEPS or self.steps == self.run.steps_per_epoch:
            self._check()

    def _check(self) -> None:
        run = self.run
        total, steps = float(self.window), self.window_steps
        mean = total / max(steps, 1)
        self.window.zero_()
        self.window_steps = 0
        step = run.epoch * run.steps_per_epoch + self.steps
        self.lr = run.steering.lr(step - 1)
        # A state written before it was kept has none: a uniform guess, where networks usually begin.
        began = math.log(run.task.num_classes) if run.first_loss is None else float(run.first_loss)
        run.first_loss = began
        if math.isfinite(mean) and (steps < FEW_STEPS or mean <= EXPLODED * began or began <= 0):
            self.loss_sum += total
            self.counted += steps
            return
        run.steering.look(run.prober)  # a controller may go back
        if self._went_back():
            return
        self.stop()
        run.history.append(
            {
                "epoch": run.epoch + 1,
                "step": step,
                "lr": self.lr,
                "train_loss": mean,
                "train_accuracy": self.accuracy,
                "val_loss": math.nan,
                "val_accuracy": math.nan,
                **run.rounded,
            }
        )
        what = f"exploded to {mean:.4g} (it began at {began:.3g})" if math.isfinite(mean) else "is not finite"
        raise Ended("diverged", f"the training loss {what} at step {step:,} (LR {self.lr:.3g})")

    def stop(self) -> None:
        """The steps are over: what they used is the run's."""
        for name, value in self.meter.used().items():
            if name in self.run.used or self.run.epoch == 0:  # else it was not counted from the beginning
                self.run.used[name] = self.run.used.get(name, 0.0) + value / self.sharers

    @property
    def loss(self) -> float:
        """Mean over the steps that were not undone; NaN: all were."""
        return self.loss_sum / self.counted if self.counted else math.nan

    @property
    def accuracy(self) -> float:
        return float(self.right) / (self.steps * self.run.batch_size)
