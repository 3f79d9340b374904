"""A lock for file systems without locks: a folder with one file, whose name says whose turn it is.

Everything is a rename, which every file system does in one step. Taking: a folder of one's own, with the file in it, is
renamed to the lease; that fails while a lease with a file is there. Keeping: the holder renames the file, which fails
once it is another's. Taking over: so does who saw it unchanged for long, so that of several one succeeds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
import threading
import time
from pathlib import Path

from lrensemble.errors import UserError

HEARTBEAT, EXPIRY = 15.0, 120.0  # seconds; NFS may show a folder as it was a minute ago
POLL = 0.5
_FASTER = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}  # another was: it has the lease, or cleaned up in the folder
_held: set[Lease] = set()
if hasattr(os, "register_at_fork"):  # what a child keeps, its parent would lose
    os.register_at_fork(after_in_child=_held.clear)


class LeaseLost(UserError):
    """Another process took over what this one held: it is at it now, and this one may write nothing more of it."""


def keep_leases() -> None:
    """Called before a file of a pool appears: `LeaseLost` where a lease of this process is another's by now."""
    for lease in tuple(_held):
        lease.keep()


class Lease:
    """The folder `path`; hold it between `acquire` and `release`. Clocks of other machines do not matter."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = secrets.token_hex(8)
        self._one = threading.Lock()  # renames at a time
        self._seen: tuple[str, float] = "", 0.0  # the other's file as it was last seen to change, and when
        self._done = threading.Event()

    def acquire(self, timeout: float = -1) -> bool:
        """Take it, if need be when another's has expired; False: another held it for `timeout` seconds (-1: no end)."""
        began = time.monotonic()
        while not (self._take() or self._take_over()):
            if 0 <= timeout <= time.monotonic() - began:
                return False
            time.sleep(POLL)
        _held.add(self)
        threading.Thread(target=self._beat, daemon=True).start()
        return True

    def keep(self) -> None:
        """Show others that it is held; `LeaseLost` where it was taken over, as this process had stopped for long."""
        with self._one:
            name = secrets.token_hex(8)
            try:
                (self.path / self._name).rename(self.path / name)
            except FileNotFoundError:
                if self._done.is_set() or not self.path.parent.is_dir():  # moved away: who writes there will say it
                    return
                if not (self.path / name).exists():  # or it was done, and the server was asked twice
                    raise LeaseLost(
                        f"{self.path.parent} was taken over by another process, as this one had stopped for "
                        f"{EXPIRY:.0f} s: nothing more was written; the same command goes on"
                    ) from None
            except OSError:  # a server that does not answer now may do so next time
                return
            self._name = name

    def release(self) -> None:
        """Let others in; nothing where it was lost."""
        self._done.set()
        _held.discard(self)
        with self._one, contextlib.suppress(OSError):
            (self.path / self._name).unlink()
            self.path.rmdir()  # or somebody has renamed a folder over the empty one

    def age(self) -> float:
        """Seconds since its holder showed itself, by the server's clock; infinite where nobody holds it."""
        with contextlib.suppress(OSError):
            return self._now() - self.path.stat().st_mtime  # of the last rename in it
        return float("inf")

    def _now(self) -> float:
        """As the file server dates what is made now; by this machine's clock where nothing can be made."""
        try:
            with tempfile.TemporaryFile(dir=self.path.parent) as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError:
            return time.time()

    def _take(self) -> bool:
        own = self.path.with_name(f"{self.path.name}.{self._name}.tmp")
        try:
            if self.path.is_dir() and any(self.path.iterdir()):
                return False
            own.mkdir()
            (own / self._name).touch()
            own.rename(self.path)
        except OSError as error:
            shutil.rmtree(own, ignore_errors=True)
            if error.errno in _FASTER and self.path.parent.is_dir():
                return False
            raise
        return True

    def _take_over(self) -> bool:
        with contextlib.suppress(OSError):  # released, kept, or taken by another, meanwhile
            for file in self.path.iterdir():
                if self._seen[0] != file.name:
                    self._seen = file.name, time.monotonic()
                elif time.monotonic() - self._seen[1] >= EXPIRY:
                    file.rename(self.path / self._name)
                    return True
        return False

    def _beat(self) -> None:
        with contextlib.suppress(LeaseLost):  # said to who writes
            while not self._done.wait(HEARTBEAT):
                self.keep()
