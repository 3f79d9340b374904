"""From the raw values of a row to what a model takes. Training, evaluation, streaming and export all use these."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """Minus the mean and divided by the deviation of every channel: raw (B, C, ...) -> float32 (B, C, ...).

    Parameters
    ----------
    mean, std : sequence of float
        One for every channel: the first axis of `shape`.
    shape : tuple of int
        Of one row, without the batch: (C, H, W) for images, (C,) for tabular rows.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], shape: Sequence[int]) -> None:
        super().__init__()
        self.values = {"mean": list(mean), "std": list(std)}
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, *[1] * (len(shape) - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() - self.mean) / self.std

    def undo(self, x: Tensor) -> Tensor:
        """The raw values, up to rounding."""
        return x * self.std + self.mean
