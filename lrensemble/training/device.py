"""Where to train, and the data set as tensors on that device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lrensemble.data import Dataset, Split
from lrensemble.errors import UserError, did_you_mean


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA if there is one, else Apple's MPS, else the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name.split(":")[0] not in ("cpu", "cuda", "mps"):
        raise UserError(f"unknown device {name!r}: {did_you_mean(name, ['auto', 'cpu', 'cuda', 'cuda:1', 'mps'])}")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device


@dataclass(frozen=True)
class Rows:
    """A split on a device: normalised images (N, C, H, W) float32 and labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DeviceData:
    """The three splits on one device, normalised with the mean and deviation of train."""

    train: Rows
    val: Rows
    test: Rows
    input_shape: tuple[int, ...]
    num_classes: int

    @classmethod
    def of(cls, data: Dataset, device: torch.device) -> DeviceData:
        mean, std = (np.asarray(x, dtype=np.float32)[:, None, None] for x in data.normalisation)

        def rows(split: Split) -> Rows:
            images = torch.from_numpy(split.images).to(device).float()
            images.sub_(torch.from_numpy(mean).to(device)).div_(torch.from_numpy(std).to(device))
            return Rows(images, torch.from_numpy(split.labels).to(device))

        return cls(rows(data.train), rows(data.val), rows(data.test), data.input_shape, data.num_classes)
