"""The predictions of many members as one (M, N, C) array that stays on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lrensemble.errors import UserError
from lrensemble.pool.files import read_array


class Predictions(Sequence[NDArray[Any]]):
    """Members x rows x classes. Indexing by member gives a memory-mapped (N, C) array; ``np.asarray`` stacks all."""

    def __init__(self, paths: Sequence[Path], shape: tuple[int, int]) -> None:
        self._arrays = []
        for path in paths:
            array = read_array(path)
            if array.shape != shape or array.dtype.kind != "f":
                raise UserError(
                    f"{path}: {array.dtype} of shape {array.shape}, "
                    f"but the pool has {shape[0]} rows of {shape[1]} classes"
                )
            self._arrays.append(array)
        self.shape = (len(self._arrays), *shape)
        self.dtype: np.dtype[Any] = np.result_type(*self._arrays) if self._arrays else np.dtype(np.float32)
        self.nbytes = len(self._arrays) * shape[0] * shape[1] * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, index: Any) -> Any:
        return self._arrays[index]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("predictions lie in several files: one array of them is always a copy")
        if not self._arrays:
            return np.empty(self.shape, dtype=dtype or self.dtype)
        return np.stack(self._arrays, dtype=dtype or self.dtype)
