"""Files that may be a stranger's: regular ones only, of a size that their kind can have, with errors that are true.

A pipe would wait for ever, a device has no end, and what a header or an archive says of its size need not be so.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import math
import os
import stat
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from lrensemble.errors import MachineError, UserError

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
MOST_TEXT = 256 << 20  # bytes of a table as text
CELL = 100  # bytes that a cell of it takes while it is read
MOST_LINE = 64 << 10  # bytes of one line of a history
SMALL = 256 << 20  # unpacked bytes that nobody asks about ...
RATIO = 20  # ... and how many times more than packed ones are believed beyond that


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


def open_regular(path: Path, most: int | None = None, fix: str = "") -> io.BufferedReader:
    """Open a regular file for reading; `UserError` for anything else, and for one of more than `most` bytes."""
    with clear_read_errors(path):
        _check_regular(path, path.stat())  # some devices do something when they are opened
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
        try:
            _check_regular(path, info := os.fstat(file.fileno()))
            if most is not None and info.st_size > most:
                raise UserError(
                    f"{path}: {info.st_size:,} bytes are too many, such a file has at most {most:,}{fix and f': {fix}'}"
                )
        except BaseException:
            file.close()
            raise
        return file


def _check_regular(path: Path, info: os.stat_result) -> None:
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    if not stat.S_ISREG(info.st_mode):
        raise UserError(f"{path} is {kinds.get(stat.S_IFMT(info.st_mode), 'a device')}, no file: it is not read")


def read_bytes(path: Path, most: int = MOST_JSON, fix: str = "") -> bytes:
    """All of a regular file of at most `most` bytes, or a `UserError`."""
    with open_regular(path, most, fix) as file, clear_read_errors(path):
        data = file.read(most + 1)  # what /proc has says that it is empty
    if len(data) > most:
        raise UserError(f"{path}: more than {most:,} bytes, such a file has at most that")
    return data


def read_text(path: Path, fix: str) -> str:
    """A file of text in UTF-8, or a `UserError`; `fix` is how to save what is too large for one."""
    try:
        return read_bytes(path, MOST_TEXT, fix).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: no text in UTF-8 ({error.reason} at byte {error.start:,}): save it in this encoding"
        ) from None


def check_cells(path: Path, cells: int, fix: str) -> None:
    """Refuse a table of more cells of text than the memory holds as Python's."""
    import psutil  # most commands read no tables

    if cells * CELL > psutil.virtual_memory().available / 2:
        raise UserError(f"{path}: about {cells:,} cells of text take too much memory: {fix}")


def check_packed(where: object, unpacked: int, packed: int) -> None:
    """Refuse what grows so much that it is made to fill the memory."""
    if unpacked > max(SMALL, RATIO * packed):
        raise UserError(
            f"{where}: {packed:,} bytes that unpack to {unpacked:,} are not unpacked here: if this is right, unpack it "
            "yourself and give the plain file"
        )


def damaged(path: Path, why: object, fix: str = "") -> UserError:
    """The error of a file that could be read and is not what it should be."""
    return UserError(f"{path}: cut off or damaged ({why})" + (f": {fix}" if fix else ""))


def check_array(file: IO[bytes], size: int) -> None:
    """ValueError unless `file`, at its start, is a .npy of plain numbers of `size` bytes; it is at its start again."""
    shape, dtype, _ = array_header(file)
    if file.tell() + math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"its header says {dtype} of shape {shape}, the file is shorter")
    file.seek(0)


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], Literal["C", "F"]]:
    """Shape, dtype and order of a .npy, whose data follow; ValueError when it is none of plain numbers."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format, not of plain numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(file)
    except (tokenize.TokenError, SyntaxError, RecursionError) as error:  # NumPy's reader of headers is Python's
        raise ValueError(f"its header cannot be read: {error}") from None
    if dtype.hasobject:
        raise ValueError("pickled Python objects, which are never loaded")
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    return shape, dtype, "F" if fortran else "C"


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open_regular(path) as file, clear_read_errors(path):
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_hash(path: Path) -> str:
    """`file_hash`, computed once a process as long as the file stays as it is."""
    with clear_read_errors(path):
        info = path.stat()
    return _hash_of(path, info.st_mtime_ns, info.st_size)


@functools.lru_cache(maxsize=256)
def _hash_of(path: Path, changed: int, size: int) -> str:
    return file_hash(path)
