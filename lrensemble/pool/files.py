"""Files that are either whole or not there: write to a temporary name, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from lrensemble.errors import MachineError, UserError
from lrensemble.opening import MOST_JSON, array_header, clear_read_errors, damaged, open_regular, read_bytes
from lrensemble.pool.lease import keep_leases
from lrensemble.pool.links import refuse_links

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
State = tuple[int, int, int] | None  # of a file, see `file_state`
SEAL = "sha256"  # entry of a JSON file: hash of all others
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
        if isinstance(error, FileNotFoundError):
            raise UserError(
                f"{path} cannot be written: its folder is gone. Was it moved or deleted meanwhile? The same command "
                "with its new place goes on from what is finished"
            ) from None
        raise


def write_atomic(path: Path, write: Callable[[IO[bytes]], object], *, sync: bool = True) -> None:
    """Make `path` appear with everything that ``write(file)`` writes, or not at all.

    Its folder is made, but no folder above it: what was moved away while it was written into does not come back.
    `sync` False leaves out fsync: enough for files that only show progress. Never through a link inside of a pool, nor
    after another process took over what this one held (`LeaseLost`).
    """
    refuse_links(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with clear_disk_errors(path):
        try:
            path.parent.mkdir(exist_ok=True)
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            keep_leases()
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
    """Strict JSON: models and dataclasses are objects; numbers that JSON does not know (NaN, infinity) become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"{type(value).__name__} is no JSON: {value!r:.60}")

    values = to_jsonable_python(to_jsonable_python(data, fallback=plain), inf_nan_mode="null")  # models first
    return json.dumps(values, indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: Path, data: Any) -> None:
    write_bytes(path, json_text(data).encode() + b"\n")


def write_sealed(path: Path, data: dict[str, Any]) -> None:
    """JSON that ends with a hash of itself, which `read_model` checks."""
    plain = json.loads(json_text(data))
    write_json(path, {**plain, SEAL: _digest(plain)})


def _digest(plain: dict[str, Any]) -> str:
    """Of what JSON can hold, without the digest; order and layout of the file do not count."""
    rest = {key: value for key, value in plain.items() if key != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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
    """A pydantic model from a JSON file.

    A `UserError` that ends with the `fix` where it is cut off, of another kind, or was changed after it was written.
    Files of older versions have no hash, and are taken as they are.
    """
    data = read_json(path, fix)
    # The hash is the file's, no entry of the model: a strict one would refuse it.
    if SEAL in data and data.pop(SEAL) != _digest(data):
        raise UserError(
            f'{path} was changed after it was written (its "{SEAL}" is of other contents){f": {fix}" if fix else ""}. '
            f'Whoever changed it on purpose deletes its entry "{SEAL}"'
        )
    try:
        with clear_read_errors(path):
            return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        why = ".".join(map(str, first["loc"])) + f": {first['msg']}"
        raise damaged(path, why.removeprefix(": "), fix) from None
    except RecursionError as error:
        raise damaged(path, error, fix) from None
    except MachineError:
        raise
    except UserError as error:  # of what a field says: a policy, a vote
        raise damaged(path, error, fix) from None


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    write_atomic(path, lambda file: file.write(data))


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Plain .npy, never pickled."""
    write_bytes(path, array_bytes(array))


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


def now() -> str:
    """Current time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def file_state(path: Path) -> State:
    """What differs once a file has been written again: inode, size, time. None: there is none to look at."""
    try:
        info = path.stat()
    except OSError:  # reading it says why
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns


class Once:
    """What was read of files, and is read again only of one that has changed since."""

    def __init__(self) -> None:
        self._found: dict[Path, tuple[State, Any]] = {}

    def __call__(self, path: Path, read: Callable[[], T]) -> T:
        """What ``read()`` gives of the file `path`, or gave while it was in the state that it is in."""
        state = file_state(path)  # before reading: what is replaced meanwhile is read again
        if state is None or path not in self._found or self._found[path][0] != state:
            self._found[path] = state, read()
        found: T = self._found[path][1]
        return found
