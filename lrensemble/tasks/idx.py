"""The IDX format of MNIST and its relatives, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError

# Third byte of the magic number -> element type (big-endian on disk).
_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
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
    """Read one IDX file; raise `UserError` when it is cut off or something else."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES:
        raise UserError(f"{path}: not an IDX file (it starts with {raw[:4]!r})")
    dtype, dimensions = np.dtype(_TYPES[raw[2]]), raw[3]
    header = 4 + 4 * dimensions
    if len(raw) < header:
        raise UserError(f"{path}: cut off: {len(raw)} bytes, its header alone has {header}")
    shape = tuple(int(n) for n in np.frombuffer(raw[4:header], dtype=">u4"))
    expected = header + math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise UserError(f"{path}: cut off or damaged: {len(raw):,} bytes, {expected:,} expected for shape {shape}")
    return np.frombuffer(raw, dtype=dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))
