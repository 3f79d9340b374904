"""What a task does with a new model, and measures of a trained one, on a few rows of its own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from lrensemble.tasks.rows import AnyRows
from lrensemble.tasks.task import Batch, Task

ROWS = 200  # that `Task.initialise` gets of train, and `Task.measure` of validation after an epoch, and at once


def initialise(task: Task, model: nn.Module, train: AnyRows) -> None:
    """Call `Task.initialise` with training rows, where a task has it."""
    if type(task).initialise is not Task.initialise:
        for batch in _spread(train, ROWS):
            task.initialise(model, batch)


def measured(task: Task, model: nn.Module, rows: AnyRows, most: int = ROWS) -> dict[str, float]:
    """Means of `Task.measure` over so many rows at most; the model is in eval mode afterwards."""
    if type(task).measure is Task.measure:
        return {}
    model.eval()
    parts = [task.measure(model, batch) for batch in _spread(rows, most)]
    return {name: float(torch.cat([part[name] for part in parts]).mean()) for name in parts[0]}


def _spread(rows: AnyRows, most: int) -> Iterator[Batch]:
    """Batches of evenly spread rows."""
    order = torch.linspace(0, len(rows) - 1, min(most, len(rows))).long()
    return rows.batches(order, ROWS, -(-len(order) // ROWS))
