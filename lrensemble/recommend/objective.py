"""What a search looks for: the highest accuracy at the end, or the fewest steps to a target."""

from __future__ import annotations

from dataclasses import dataclass

from lrensemble.recommend.records import Run
from lrensemble.recommend.task import Task


@dataclass(frozen=True)
class Objective:
    """Accuracy (target None), or optimizer steps to the first evaluation at or above a target, on validation."""

    target: float | None = None

    @property
    def direction(self) -> str:
        return "maximize" if self.target is None else "minimize"

    @property
    def order(self) -> str:
        """Its order among those of `ranking.ORDERS`."""
        return "accuracy" if self.target is None else "iterations-to-target"

    def study(self, task: Task) -> str:
        return task.study if self.target is None else f"{task.study} steps to {self.target:g}"

    def shown(self, accuracy: float) -> float:
        """A validation accuracy on the way, as pruners compare it."""
        return accuracy if self.target is None else 1 - accuracy

    def value(self, run: Run) -> float | None:
        """Of a run that can be judged; None for the others, which diverged or were stopped on their way.

        A complete run that missed the target has all of its steps and more, the more the further it stayed away.
        """
        if self.target is None:
            return run.accuracy if run.is_complete else None
        if found := run.reached(self.target):
            return found[0]
        if not run.is_complete or not run.curve:
            return None
        best = max(line[3] for line in run.curve)
        return run.curve[-1][1] * (1 + self.target - best)
