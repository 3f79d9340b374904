"""A limit for the memory of tensors, while something from a file is built or tried."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from lrensemble.errors import UserError

SMALLEST = 4096  # bytes that a tensor counts at least, with the objects around it


class MemoryLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raise `UserError` when the tensors that are made, and not freed again, hold more than `most` bytes.

    What makes a tensor of numbers alone (``zeros``, ``randn``) is asked for its size first.
    """

    def __init__(self, most: int, reason: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most, self.reason, self.used = most, reason, 0
        self.counted: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        names = {argument.name for argument in func._schema.arguments}
        if not _tensors((args, kwargs)) and {"device", "pin_memory"} <= names:
            sized = func(*args, **{**kwargs, "device": torch.device("meta"), "pin_memory": None})
            self._check(sum(tensor.untyped_storage().nbytes() for tensor in _tensors(sized)))
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            self._add(tensor.untyped_storage())
        return result

    def _check(self, size: int) -> None:
        if self.used + size > self.most:
            raise UserError(self.reason)

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, max(storage.nbytes(), SMALLEST)
        if key not in self.counted:
            self._check(size)
            self.counted.add(key)
            self.used += size
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self.counted.discard(key)
        self.used -= size


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in pytree.tree_leaves(values) if isinstance(value, torch.Tensor)]
