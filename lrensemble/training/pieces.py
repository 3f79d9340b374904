"""A batch that is computed in pieces, so that less memory is needed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lrensemble.tasks.task import Batch


def in_pieces(batch: Batch, count: int) -> Iterator[Batch]:
    """A batch as `count` smaller ones of about the same size."""
    if count == 1:
        yield batch
        return
    rows = len(batch["y"])
    for i in range(count):
        part = slice(i * rows // count, (i + 1) * rows // count)
        yield {key: value[part] for key, value in batch.items()}


def sum_of(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).sum()
