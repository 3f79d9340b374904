"""Augmentation of a whole batch on its device, from torch's global random state (seeded per epoch by the loop)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

PAD = 4  # pixels on every side, the usual choice for 32x32 images


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


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {"crop": crop, "flip": flip}
