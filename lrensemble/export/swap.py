"""Put a folder in the place of another in one step: whoever reads there finds the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lrensemble.errors import UserError

_HERE, _EXCHANGE, _SWAP = -100, 2, 2  # AT_FDCWD, RENAME_EXCHANGE (Linux), RENAME_SWAP (macOS)


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill beside `out`; it takes the place of `out` when the body is through, and goes when that fails.

    What a killed process left beside `out` is finished or removed first.

    Raises
    ------
    UserError
        Another process is writing there.
    """
    out = out.resolve()  # of a link, what it leads to
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_name(f".{out.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another process is writing {out}") from None
    try:
        _clean(out)
        temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
        temporary.mkdir()
        try:
            yield temporary
            replace(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            _clean(out)
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def replace(new: Path, out: Path) -> None:
    """Let `new` be `out`. What was there is at `new` then, or (no exchange here) beside it as ``.old``."""
    if out.exists() and not _exchange(new, out):
        # Two steps, for file systems that know no exchange; `_clean` undoes the first one alone.
        out.replace(_old(out))
    if new.exists() and not out.exists():
        new.replace(out)


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")


def _clean(out: Path) -> None:
    """What a process left that was killed: the team that was on its way out comes back where it has no successor."""
    if _old(out).is_dir() and not out.exists():
        _old(out).replace(out)
    for path in (_old(out), *out.parent.glob(f".{glob.escape(out.name)}.*.tmp")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or its file system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            return bool(library.renamex_np(*names, _SWAP) == 0)
        return bool(library.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0)
    except (AttributeError, OSError):  # an older C library
        return False
