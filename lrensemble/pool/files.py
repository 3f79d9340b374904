"""Files that are either whole or not there: write to a temporary name, fsync, rename.

Read are regular files only (a pipe would wait for ever, a device has no end), up to a size that their kind never has.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from lrensemble.errors import MachineError, UserError

M = TypeVar("M", bound=BaseModel)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MACHINE = {
    errno.EMFILE: "too many files are open: nothing is damaged, `ulimit -n 4096` allows more",
    errno.ENFILE: "too many files are open on this machine: nothing is damaged, try again when it is less busy",
    errno.ENOMEM: "too little memory: nothing is damaged, try again when more is free",
    errno.ESTALE: "the file server has lost it (stale file handle): try again",
    errno.ETIMEDOUT: "the file server does not answer: try again",
}
_FILE = {
    errno.ENOENT: "it is missing",
    errno.EACCES: "permission denied: it may be whole, but you may not read it",
    errno.EPERM: "permission denied: it may be whole, but you may not read it",
    errno.EIO: "the disk cannot read it (input/output error): look at the disk before anything is deleted",
}
MOST_JSON = 16 << 20  # bytes of a record, a team, an evaluation, a configuration, pool.json
MOST_HISTORY = 64 << 20  # bytes: a quarter of a million epochs
MOST_LINE = 64 << 10  # bytes of one line of a history


@contextlib.contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"the disk is full: {path} was not written. Free some space and run the same command again; "
                "everything finished so far is kept"
            ) from None
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise UserError(f"{path} cannot be written: {error.strerror}") from None
        raise


@contextlib.contextmanager
def clear_read_errors(path: Path) -> Iterator[None]:
    """Turn what keeps a file from being read into one line that is true: damaged is what has been read and is wrong."""
    try:
        yield
    except OSError as error:
        if error.errno in _MACHINE:
            raise MachineError(f"{path}: cannot be read ({_MACHINE[error.errno]})") from None
        why = _FILE.get(error.errno or 0) or error.strerror or error
        raise UserError(f"{path}: cannot be read ({why})") from None
    except MemoryError as error:
        raise MachineError(f"{path}: cannot be read ({_MACHINE[errno.ENOMEM]}; {error or 'MemoryError'})") from None


def open_regular(path: Path, most: int | None = None) -> io.BufferedReader:
    """Open a regular file for reading; `UserError` for anything else, and for one of more than `most` bytes."""
    with clear_read_errors(path):
        _check_regular(path, path.stat())  # some devices do something when they are opened
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
        try:
            _check_regular(path, info := os.fstat(file.fileno()))
            if most is not None and info.st_size > most:
                raise UserError(f"{path}: {info.st_size:,} bytes are too many, such a file has at most {most:,}")
        except BaseException:
            file.close()
            raise
        return file


def _check_regular(path: Path, info: os.stat_result) -> None:
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    if not stat.S_ISREG(info.st_mode):
        raise UserError(f"{path} is {kinds.get(stat.S_IFMT(info.st_mode), 'a device')}, no file: it is not read")


def read_bytes(path: Path, most: int = MOST_JSON) -> bytes:
    """All of a regular file of at most `most` bytes, or a `UserError`."""
    with open_regular(path, most) as file, clear_read_errors(path):
        data = file.read(most + 1)  # what /proc has says that it is empty
    if len(data) > most:
        raise UserError(f"{path}: more than {most:,} bytes, such a file has at most that")
    return data


def write_atomic(path: Path, write: Callable[[IO[bytes]], object], *, sync: bool = True) -> None:
    """Make `path` appear with everything that ``write(file)`` writes, or not at all.

    `sync` False leaves out fsync: enough for files that only show progress.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with clear_disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        if sync and os.name == "posix":  # the rename itself must survive a power cut
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def json_text(data: Any, *, indent: int | None = 2) -> str:
    """Strict JSON: numbers that JSON does not know (NaN, infinity) become null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(k): clean(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [clean(v) for v in value]
        if isinstance(value, np.generic):
            value = value.item()
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(clean(data), indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: Path, data: Any) -> None:
    write_atomic(path, lambda file: file.write(json_text(data).encode() + b"\n"))


def read_text(path: Path, most: int = MOST_JSON) -> str:
    """Text of a file of a pool, or a `UserError`."""
    try:
        return read_bytes(path, most).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cut off or damaged ({error})") from None


def read_json(path: Path, fix: str = "") -> dict[str, Any]:
    """An object from a JSON file; a `UserError` that ends with the `fix` where it is cut off or something else."""
    try:
        data = json.loads(read_text(path))
        if not isinstance(data, dict):
            raise ValueError(f"an object is expected, this is {type(data).__name__}")
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, fix) from None
    return data


def read_model(kind: type[M], path: Path, fix: str = "") -> M:
    """A pydantic model from a JSON file; a `UserError` that ends with the `fix` where it is cut off or another kind."""
    data = read_bytes(path)
    try:
        with clear_read_errors(path):
            return kind.model_validate_json(data)
    except ValidationError as error:
        raise damaged(path, error.errors()[0]["msg"], fix) from None
    except RecursionError as error:
        raise damaged(path, error, fix) from None
    except MachineError:
        raise
    except UserError as error:  # of what a field says: a policy, a vote
        raise damaged(path, error, fix) from None


def damaged(path: Path, why: object, fix: str = "") -> UserError:
    """The error of a file that could be read and is not what it should be."""
    return UserError(f"{path}: cut off or damaged ({why})" + (f": {fix}" if fix else ""))


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Plain .npy, never pickled."""
    data = array_bytes(array)
    write_atomic(path, lambda file: file.write(data))


def array_bytes(array: NDArray[Any]) -> memoryview:
    """What `write_array` writes."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getbuffer()


def read_array(path: Path) -> NDArray[Any]:
    """Open a .npy memory-mapped and read-only; nothing in it is ever executed. It keeps a descriptor while it lives."""
    with open_regular(path) as file, clear_read_errors(path):
        try:
            shape, dtype, order = array_header(file)
            if file.tell() + math.prod(shape) * dtype.itemsize > os.fstat(file.fileno()).st_size:
                raise ValueError(f"its header says {dtype} of shape {shape}, the file is shorter")
            return np.memmap(file, dtype, "r", file.tell(), shape, order)
        except (ValueError, EOFError, TypeError, OverflowError) as error:
            raise damaged(path, error) from None


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], Literal["C", "F"]]:
    """Shape, dtype and order of a .npy, whose data follow; ValueError when it is none of plain numbers."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format, not of plain numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("pickled Python objects, which are never loaded")
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    return shape, dtype, "F" if fortran else "C"


def now() -> str:
    """Current time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def file_hash(path: Path) -> str:
    with open_regular(path) as file, clear_read_errors(path):
        return hashlib.file_digest(file, "sha256").hexdigest()
