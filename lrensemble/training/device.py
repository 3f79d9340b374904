"""Where to train, and the data set on that device: all of it, or as a stream of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils import data as torch_data

from lrensemble.data import Dataset, Split
from lrensemble.errors import UserError, did_you_mean

FILLED = 0.5  # share of the free memory that the data may take


def pick_devices(names: str = "auto") -> list[torch.device]:
    """Devices by their names, ``cuda:0,cuda:1``; ``auto`` is every CUDA device, else Apple's MPS, else the CPU."""
    if names == "auto":
        if torch.cuda.is_available():
            return [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
        return [torch.device("mps" if torch.backends.mps.is_available() else "cpu")]
    return list(dict.fromkeys(_pick(name.strip()) for name in names.split(",")))


def _pick(name: str) -> torch.device:
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

    def batches(self, order: Tensor, batch_size: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The first `steps` batches of the rows in `order`."""
        order = order.to(self.images.device)
        for step in range(steps):
            index = order[step * batch_size : (step + 1) * batch_size]
            yield self.images[index], self.labels[index]  # keeps the memory format, index_select would not

    def chunks(self, rows: int) -> Iterator[Tensor]:
        """All images in order."""
        yield from torch.split(self.images, rows)


class _Gather(torch_data.Dataset[tuple[Tensor, Tensor]]):
    """Whole batches of raw rows by their indices, read where they lie (memory-mapped files, or memory)."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor]:
        order = np.argsort(index)  # a file is read forwards
        images = np.empty((len(index), *self.split.images.shape[1:]), self.split.images.dtype)
        images[order] = self.split.images[index[order]]
        return torch.from_numpy(images), torch.from_numpy(self.split.labels[index])


class StreamedRows:
    """A split that stays where it is; batches come through a DataLoader and are normalised on the device."""

    def __init__(
        self,
        split: Split,
        mean: Tensor,
        std: Tensor,
        device: torch.device,
        loader_workers: int,
        memory_format: torch.memory_format,
    ) -> None:
        self.split, self.mean, self.std = split, mean, std
        self.device, self.memory_format = device, memory_format
        self.labels = torch.from_numpy(split.labels).to(device)
        self._indices: list[np.ndarray[Any, Any]] = []  # what the next pass reads
        self._loader = torch_data.DataLoader(
            _Gather(split),
            batch_size=None,
            sampler=self._Sampler(self._indices),
            num_workers=loader_workers,
            persistent_workers=loader_workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # its own: the global random state belongs to the member
        )

    class _Sampler(Sequence[Any]):
        """A list that is filled anew for every pass."""

        def __init__(self, indices: list[Any]) -> None:
            self.indices = indices

        def __len__(self) -> int:
            return len(self.indices)

        def __getitem__(self, i: Any) -> Any:
            return self.indices[i]

    def __len__(self) -> int:
        return len(self.split)

    def batches(self, order: Tensor, batch_size: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        rows = order.numpy()
        self._indices[:] = [rows[step * batch_size : (step + 1) * batch_size] for step in range(steps)]
        for images, labels in self._loader:
            yield self._normalised(images), labels.to(self.device, non_blocking=True)

    def chunks(self, rows: int) -> Iterator[Tensor]:
        count = -(-len(self) // rows)
        for images, _ in self.batches(torch.arange(len(self)), rows, count):
            yield images

    def _normalised(self, images: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True).float().sub_(self.mean).div_(self.std)
        return images.contiguous(memory_format=self.memory_format)


AnyRows = Rows | StreamedRows


@dataclass(frozen=True)
class DeviceData:
    """The three splits for one device, normalised with the mean and deviation of train."""

    train: AnyRows
    val: AnyRows
    test: AnyRows
    input_shape: tuple[int, ...]
    num_classes: int
    device: torch.device

    @classmethod
    def of(
        cls,
        data: Dataset,
        device: torch.device,
        *,
        stream: bool = False,
        loader_workers: int = 0,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> DeviceData:
        mean, std = (torch.tensor(x, dtype=torch.float32, device=device)[:, None, None] for x in data.normalisation)

        def rows(split: Split) -> AnyRows:
            if stream:
                return StreamedRows(split, mean, std, device, loader_workers, memory_format)
            images = torch.from_numpy(np.asarray(split.images)).to(device).float().sub_(mean).div_(std)
            return Rows(images.contiguous(memory_format=memory_format), torch.from_numpy(split.labels).to(device))

        return cls(rows(data.train), rows(data.val), rows(data.test), data.input_shape, data.num_classes, device)


def must_stream(data: Dataset, device: torch.device, sharers: int) -> bool:
    """True when float32 copies of all splits would fill the memory that `sharers` processes have on the device."""
    needed = 4 * sum(int(np.prod(split.images.shape)) for split in (data.train, data.val, data.test))
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return needed * sharers > FILLED * free
