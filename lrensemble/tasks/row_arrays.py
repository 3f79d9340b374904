"""Rows of an array that may be larger than memory: picked when they are asked for, walked through in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lrensemble.array import Array

CHUNK = 4096  # rows


class Picked:
    """Some rows of a memory-mapped array, in a given order, read only when indexed."""

    def __init__(self, array: Array, index: Array) -> None:
        self.array, self.index = array, index
        self.shape = (len(index), *array.shape[1:])
        self.dtype = array.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Any) -> Array:
        rows: Array = np.asarray(self.array[self.index[key]])
        return rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self[:].astype(dtype or self.dtype, copy=False)


def pick(images: Array | Picked, index: Array) -> Array | Picked:
    """Rows by their numbers: a copy of an array in memory, a view of one on disk."""
    if isinstance(images, Picked):
        return Picked(images.array, images.index[index])
    return Picked(images, index) if isinstance(images, np.memmap) else np.ascontiguousarray(images[index])


def pieces(images: Array | Picked) -> Iterator[Array]:
    """All rows in order, a bounded number at a time, contiguous."""
    for start in range(0, len(images), CHUNK):
        yield np.ascontiguousarray(images[start : start + CHUNK])
