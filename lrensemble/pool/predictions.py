"""The predictions of many members as one (M, N, C) array that stays on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lrensemble.errors import UserError
from lrensemble.pool.files import State, file_state, read_array


class Predictions(Sequence[NDArray[Any]]):
    """Members x rows x classes. Indexing by member gives a memory-mapped (N, C) array; ``np.asarray`` stacks all.

    A file is open only as long as its array is used, so that a pool may have more members than a process descriptors;
    one that has changed since it was first opened is a `UserError`. Where rows have choices of their own, -0.0 marks
    those that do not exist, as `selection.votes` says.
    """

    def __init__(self, paths: Iterable[Path], shape: tuple[int, int], choices: NDArray[np.bool] | None = None) -> None:
        self._files: list[tuple[Path, State]] = []
        self._choices = choices
        dtypes = []
        for path in paths:
            self._files.append((path, file_state(path)))
            array = self._opened(*self._files[-1])
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
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple):  # as of an array: rows of a member, and nothing else of it is read
            member, rows = index
            return self._read(*self._files[member], rows)
        found = self._files[index]
        return [self._read(*file) for file in found] if isinstance(found, list) else self._read(*found)

    def within(self, memory: int) -> NDArray[Any] | Self:
        """One array, where it takes no more than half of `memory` bytes; else what stays on disk."""
        return np.asarray(self) if self.nbytes <= memory // 2 else self

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("predictions lie in several files: one array of them is always a copy")
        stacked = np.empty(self.shape, dtype=dtype or self.dtype)
        for row, array in zip(stacked, self, strict=True):
            row[:] = array
        return stacked

    def _read(self, path: Path, state: State, rows: Any = slice(None)) -> NDArray[Any]:
        array: NDArray[Any] = self._opened(path, state)[rows]
        if self._choices is not None:
            return np.where(self._choices[rows], array, -0.0)
        # Files of older versions and of others may hold -0.0, which means nothing where all choices exist.
        return array + array.dtype.type(0) if np.signbit(array).any() else array

    @staticmethod
    def _opened(path: Path, state: State) -> NDArray[Any]:
        array = read_array(path)
        if file_state(path) != state:
            raise UserError(f"{path} was written again meanwhile: run the same command again")
        return array
