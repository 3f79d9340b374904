"""Be the only one who does something, on one machine or on several that share a folder.

A lock of the kernel (flock) where the file system has one: it is free as soon as its process is gone. Elsewhere, and
where the environment variable `FORCED` is set, a lease (`lrensemble.pool.lease`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lrensemble.pool.files import clear_disk_errors
from lrensemble.pool.lease import EXPIRY, Lease
from lrensemble.pool.links import refuse_links

FORCED = "LRENSEMBLE_LEASES"  # for mounts whose flock is known to one machine alone (NFS with local_lock, some Lustre)
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


@contextlib.contextmanager
def alone(path: Path, *, timeout: float = -1) -> Iterator[None]:
    """Hold the lock at `path`, a file that is gone afterwards; its folder exists.

    Raises ``filelock.Timeout`` when another process holds it for `timeout` seconds (-1: waits as long as it takes),
    `UserError` behind a link.
    """
    refuse_links(path, itself=True)
    if why_leases(path.parent):
        lease = _lease(path)
        refuse_links(lease.path, itself=True)
        with clear_disk_errors(path):
            if not lease.acquire(timeout):
                raise Timeout(str(path))
        try:
            yield
        finally:
            lease.release()
        return
    lock = FileLock(path)
    with clear_disk_errors(path):
        lock.acquire(timeout=timeout, poll_interval=0.2)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # whoever waits for the removed file makes another
            path.unlink()
        lock.release()


def is_held(path: Path) -> bool:
    """True while a process holds the lock at `path`; for as long as a lease lasts after its process was killed."""
    if why_leases(path.parent):
        return _lease(path).age() < EXPIRY
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a read-only folder: nobody works there
        return False


def why_leases(folder: Path) -> str:
    """Why there are leases instead of locks in a folder; empty where there are locks."""
    if os.environ.get(FORCED):
        return f"{FORCED} is set"
    with contextlib.suppress(OSError):
        device = folder.stat().st_dev
        if device not in _PROBED:
            _PROBED[device] = _probe(folder)
        return _PROBED[device]
    return ""


def _lease(path: Path) -> Lease:
    return Lease(path.with_name(f"{path.name}.lease"))


_PROBED: dict[int, str] = {}  # device -> what flock says there


def _probe(folder: Path) -> str:
    try:
        import fcntl
    except ImportError:  # Windows has locks of another name
        return ""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:  # a read-only folder says nothing of the others
            raise
        return f"its file system has no locks ({error.strerror})"
    return ""
