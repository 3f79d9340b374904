"""The IDX format of MNIST and its relatives, plain or gzipped."""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError
from lrensemble.opening import check_packed, clear_read_errors, open_regular

# Third byte of the magic number -> element type (big-endian on disk).
_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MOST_DIMENSIONS = 4
FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def find_idx(folder: Path) -> dict[str, Path]:
    """The four IDX files in `folder`, gzipped or not; those that are missing are left out."""
    candidates = {key: [folder / stem, folder / f"{stem}.gz"] for key, stem in FILES.items()}
    return {key: path for key, paths in candidates.items() for path in paths if path.is_file()}


def read_idx(path: Path) -> NDArray[Any]:
    """Read one IDX file; raise `UserError` when it is cut off or something else.

    Never more than its header says, and no header is believed that the file cannot hold.
    """
    with open_regular(path) as raw, clear_read_errors(path):
        stored = os.fstat(raw.fileno()).st_size
        try:
            if path.suffix != ".gz":
                return _read(raw, path, stored)
            with gzip.open(raw) as file:
                return _read(file, path, stored, packed=True)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None


def _read(file: io.BufferedIOBase, path: Path, stored: int, *, packed: bool = False) -> NDArray[Any]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES or not 1 <= start[3] <= MOST_DIMENSIONS:
        raise UserError(f"{path}: not an IDX file (it starts with {start!r})")
    dtype, dimensions = np.dtype(_TYPES[start[2]]), start[3]
    sizes = file.read(4 * dimensions)
    header = 4 + 4 * dimensions
    if 4 + len(sizes) < header:
        raise UserError(f"{path}: cut off: {4 + len(sizes)} bytes, its header alone has {header}")
    shape = tuple(int(n) for n in np.frombuffer(sizes, dtype=">u4"))
    expected = header + math.prod(shape) * dtype.itemsize
    if packed:
        check_packed(path, expected, stored)
    elif stored != expected:
        raise UserError(f"{path}: cut off or damaged: {stored:,} bytes, {expected:,} expected for shape {shape}")
    data = file.read(expected - header + 1)
    if header + len(data) != expected:
        found = f"{header + len(data):,} bytes" + (" or more" if header + len(data) > expected else "")
        raise UserError(f"{path}: cut off or damaged: {found}, {expected:,} expected for shape {shape}")
    return np.frombuffer(data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))
