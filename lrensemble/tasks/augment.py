"""Augmentation of a whole batch on its device, from torch's global random state (seeded per epoch by the loop)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lrensemble.errors import UserError
from lrensemble.tasks.task import Batch, TrainingOptions
from lrensemble.tasks.transforms import build_transform

PAD = 4  # pixels on every side, the usual choice for 32x32 images

Augmentation = Callable[[Tensor], Tensor]


def crop(x: Tensor) -> Tensor:
    """Shift every image by up to `PAD` pixels in each direction, zeros coming in: (B, C, H, W)."""
    batch, _, height, width = x.shape
    shift = torch.randint(0, 2 * PAD + 1, (2, batch), device=x.device)
    rows = shift[0, :, None] + torch.arange(height, device=x.device)  # (B, H)
    columns = shift[1, :, None] + torch.arange(width, device=x.device)  # (B, W)
    index = torch.arange(batch, device=x.device)[:, None, None]
    padded = F.pad(x, (PAD, PAD, PAD, PAD))
    # Advanced indices around a slice put the sliced axis (channels) last.
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def flip(x: Tensor) -> Tensor:
    """Mirror every image left to right with probability one half."""
    mirrored = torch.rand(len(x), device=x.device) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(-1), x)


def cutout(side: int) -> Augmentation:
    """Blank a square around a random pixel of every image, clipped at the border (DeVries & Taylor 2017).

    Blank is 0, the mean of the normalised images.
    """

    def cut(x: Tensor) -> Tensor:
        batch, _, height, width = x.shape

        def outside(length: int) -> Tensor:  # (B, length)
            start = torch.randint(0, length, (batch, 1), device=x.device) - side // 2
            distance = torch.arange(length, device=x.device) - start
            return (distance < 0) | (distance >= side)

        kept = outside(height)[:, :, None] | outside(width)[:, None, :]
        return x * kept[:, None]

    return cut


def mixup(batch: Batch, alpha: float) -> Batch:
    """Mix every image with another one of the batch (Zhang et al. 2018).

    Adds ``other_y``, the class of the other image, and ``share``, that of the first: drawn from Beta(alpha, alpha) once
    a batch, as in the paper's code.
    """
    x, y = batch["x"], batch["y"]
    share = torch.distributions.Beta(alpha, alpha).sample().to(x.device)
    other = torch.randperm(len(x)).to(x.device)
    mixed = share * x + (1 - share) * x[other]
    return {**batch, "x": mixed, "other_y": y[other], "share": share.expand(len(x))}


AUGMENTATIONS: dict[str, Augmentation] = {"crop": crop, "flip": flip}


def name_and_options(entry: Any) -> tuple[str, dict[str, Any]]:
    """Of an entry of ``training.augment``: a name, or a name with parameters."""
    return (entry, {}) if isinstance(entry, str) else (entry.name, entry.parameters)


def check_augmentation(entry: Any) -> None:
    """Raise `UserError` for an entry of ``training.augment`` that names nothing, or has options that it cannot have."""
    name, options = name_and_options(entry)
    if name not in AUGMENTATIONS:
        build_transform(name, options, tuple(AUGMENTATIONS))
    elif options:
        raise UserError(f"training.augment: {name} has no options, but {', '.join(options)} is given")


def augmented(batch: Batch, training: TrainingOptions, find: Callable[[Any], Augmentation]) -> Batch:
    """What a member's training does to a batch of images: the chosen changes in order, cutout, mixup."""
    x = batch["x"]
    for entry in training.augment:
        x = find(entry)(x)
    if training.cutout:
        x = cutout(training.cutout)(x)
    batch = {**batch, "x": x}
    return mixup(batch, training.mixup) if training.mixup else batch
