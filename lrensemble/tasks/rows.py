"""The rows of a task on a device: all of them as tensors, or as a stream of batches; their bits are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.utils import data as torch_data

from lrensemble.errors import UserError
from lrensemble.tasks.task import SPLITS, Arrays, Batch, Task

FILLED = 0.5  # share of the free memory that the data may take


@dataclass(frozen=True)
class Rows:
    """A split on a device: what the model takes, and labels (N,) int64 under ``y``."""

    arrays: Batch

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labels(self) -> Tensor:
        return self.arrays["y"]

    def batches(self, order: Tensor, batch_size: int, steps: int) -> Iterator[Batch]:
        """The first `steps` batches of the rows in `order`."""
        order = order.to(self.labels.device)
        for step in range(steps):
            index = order[step * batch_size : (step + 1) * batch_size]
            # Indexing keeps the memory format, index_select would not.
            yield {key: array[index] for key, array in self.arrays.items()}

    def pick(self, index: Tensor) -> Batch:
        """Some rows, whatever passes are going on."""
        return next(self.batches(index, len(index), 1))

    def chunks(self, rows: int) -> Iterator[Batch]:
        """All rows in order."""
        for start in range(0, len(self), rows):
            yield {key: array[start : start + rows] for key, array in self.arrays.items()}


class _Gather(torch_data.Dataset[Batch]):
    """Whole batches of raw rows by their indices, read where they lie (memory-mapped files, or memory)."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays["y"])

    def __getitem__(self, index: Any) -> Batch:
        return {key: torch.from_numpy(_picked(array, index)) for key, array in self.arrays.items()}


def _picked(array: Any, index: Any) -> np.ndarray[Any, Any]:
    order = np.argsort(index)  # a file is read forwards
    rows = np.empty((len(index), *array.shape[1:]), array.dtype)
    rows[order] = array[index[order]]
    return rows


class _Items(torch_data.Dataset[Batch]):
    """Whole batches of the items of a map-style dataset."""

    def __init__(self, items: torch_data.Dataset[Any], collate: Callable[[list[Any]], Batch]) -> None:
        self.items, self.collate = items, collate

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> Batch:
        return self.collate([self.items[int(i)] for i in index])


def check_rows(batch: Batch, rows: int, name: str) -> None:
    """Raise `UserError` where a batch of the split `name` has not as many rows as were asked for."""
    if not isinstance(batch, Mapping):
        raise UserError(f"{name}: a batch is {type(batch).__name__}: a dict of tensors by name is needed")
    for key, value in batch.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{name}: {key} of a batch is {type(value).__name__}: a tensor is needed")
    if wrong := [f"{len(value)} of {key}" for key, value in batch.items() if len(value) != rows]:
        raise UserError(f"{name}: a batch of {rows} rows has {', '.join(wrong)}: every item is one row of it")


class StreamedRows:
    """A split that stays where it is; batches come through a DataLoader and are made inputs on the device."""

    def __init__(
        self,
        batches: torch_data.Dataset[Batch],
        labels: Tensor,
        prepare: Callable[[Batch], Batch],
        loader_workers: int = 0,
        name: str = "train",
    ) -> None:
        self.labels, self._prepare, self._name, self._raw = labels, prepare, name, batches
        self._indices: list[np.ndarray[Any, Any]] = []  # what the next pass reads
        self._loader = torch_data.DataLoader(
            batches,
            batch_size=None,
            sampler=self._Sampler(self._indices),
            num_workers=loader_workers,
            persistent_workers=loader_workers > 0,
            pin_memory=labels.device.type == "cuda",
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
        return len(self.labels)

    def batches(self, order: Tensor, batch_size: int, steps: int) -> Iterator[Batch]:
        if (now := len(self._loader.dataset)) != len(self):  # type: ignore[arg-type]
            raise UserError(f"the dataset of {self._name} has {now} items, but had {len(self)} when it was loaded")
        rows = order.numpy()
        self._indices[:] = [rows[step * batch_size : (step + 1) * batch_size] for step in range(steps)]
        for index, batch in zip(self._indices, self._loader, strict=True):
            check_rows(batch, len(index), self._name)
            yield self._prepare(batch)

    def pick(self, index: Tensor) -> Batch:
        check_rows(batch := self._raw[index.numpy()], len(index), self._name)
        return self._prepare(batch)

    def chunks(self, rows: int) -> Iterator[Batch]:
        return self.batches(torch.arange(len(self)), rows, -(-len(self) // rows))


AnyRows = Rows | StreamedRows


def preparer(
    task: Task, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format
) -> Callable[[Batch], Batch]:
    """What makes raw rows of a task inputs of its models, on a device."""
    inputs = task.inputs()
    change = (nn.Identity() if inputs is None else inputs).to(device)

    @torch.no_grad()
    def prepare(batch: Batch) -> Batch:
        moved = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        if "x" in moved:
            x = change(moved["x"])
            moved["x"] = x.contiguous(memory_format=memory_format) if x.ndim == 4 else x
        return moved

    return prepare


def raw_batches(task: Task, name: str) -> torch_data.Dataset[Batch]:
    """Raw rows of a split by their numbers."""
    split = task.split(name)
    return _Gather(split) if isinstance(split, Mapping) else _Items(split, task.collate)


@dataclass(frozen=True)
class DeviceData:
    """A task and its three splits on one device."""

    task: Task
    train: AnyRows
    val: AnyRows
    test: AnyRows
    device: torch.device

    @classmethod
    def of(
        cls,
        task: Task,
        device: torch.device,
        *,
        stream: bool = False,
        loader_workers: int = 0,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> DeviceData:
        prepare = preparer(task, device, memory_format)

        def rows(name: str) -> AnyRows:
            split = task.split(name)
            if isinstance(split, Mapping) and not stream:
                return Rows(prepare({key: torch.from_numpy(np.asarray(array)) for key, array in split.items()}))
            labels = torch.from_numpy(task.labels(name)).to(device)
            return StreamedRows(raw_batches(task, name), labels, prepare, loader_workers, name)

        train, val, test = map(rows, SPLITS)
        return cls(task, train, val, test, device)

    @torch.no_grad()
    def scores(self, model: nn.Module, rows: AnyRows, chunk: int = 1000) -> Tensor:
        """Scores (N, C) of every row, in order; the model is in eval mode afterwards."""
        model.eval()
        chunk = min(chunk, self.task.eval_rows)
        return torch.cat([self.task.scores(model, batch) for batch in rows.chunks(chunk)])


def must_stream(task: Task, device: torch.device, sharers: int) -> bool:
    """True when float32 copies of all splits would fill the memory that `sharers` processes have on the device."""
    splits = (split for split in map(task.split, SPLITS) if isinstance(split, Mapping))
    needed = 4 * sum(int(np.prod(array.shape)) for split in splits for array in split.values())
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return needed * sharers > FILLED * free
