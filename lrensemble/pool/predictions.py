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
    """Members x rows x classes. Indexing by member gives a memory-mapped (N, C) array; ``np.asarray`` stacks all.

    A file is open only as long as its array is used, so that a pool may have more members than a process descriptors.
    """

    def __init__(self, paths: Sequence[Path], shape: tuple[int, int]) -> None:
        self._paths = list(paths)
        dtypes = []
        for path in paths:
            array = read_array(path)
            if array.shape != shape or array.dtype.kind != "f":
                raise UserError(
                    f"{path}: {array.dtype} of shape {array.shape}, "
                    f"but the pool has {shape[0]} rows of {shape[1]} classes"
                )
            dtypes.append(array.dtype)
        self.shape = (len(dtypes), *shape)
        self.dtype: np.dtype[Any] = np.result_type(*dtypes) if dtypes else np.dtype(np.float32)
        self.nbytes = len(dtypes) * shape[0] * shape[1] * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: Any) -> Any:
        paths = self._paths[index]
        return [read_array(path) for path in paths] if isinstance(paths, list) else read_array(paths)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("predictions lie in several files: one array of them is always a copy")
        stacked = np.empty(self.shape, dtype=dtype or self.dtype)
        for row, array in zip(stacked, self, strict=True):
            row[:] = array
        return stacked
