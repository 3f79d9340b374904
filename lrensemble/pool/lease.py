"""A lock for file systems without locks: a folder with one file, whose name says whose turn it is.

Everything is a rename, which every file system does in one step. Taking: a folder of one's own, with the file in it, is
renamed to the lease; that fails while a lease with a file is there. Keeping: the holder touches the file. Taking over:
the file is renamed, so that of several who saw it grow old one succeeds, and nobody can take what is new.
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
import warnings
from pathlib import Path

HEARTBEAT, EXPIRY = 15.0, 120.0  # seconds; NFS may show a file as it was a minute ago
POLL = 0.5
_FASTER = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}  # another was: it has the lease, or cleaned up in the folder


class Lease:
    """The folder `path`; hold it between `acquire` and `release`. Clocks of other machines do not matter."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = secrets.token_hex(8)
        self._seen: tuple[object, float] = None, 0.0  # the other's file as it was last seen to change, and when
        self._done = threading.Event()

    def acquire(self, timeout: float = -1) -> bool:
        """Take it, if need be when another's has expired; False: another held it for `timeout` seconds (-1: no end)."""
        began = time.monotonic()
        while not (self._take() or self._take_over()):
            if 0 <= timeout <= time.monotonic() - began:
                return False
            time.sleep(POLL)
        threading.Thread(target=self._keep, daemon=True).start()
        return True

    def release(self) -> None:
        """Let others in; nothing where it was lost."""
        self._done.set()
        with contextlib.suppress(OSError):
            (self.path / self._name).unlink()
            self.path.rmdir()  # or somebody has renamed a folder over the empty one

    def age(self) -> float:
        """Seconds since its holder touched it, by the server's clock; infinite where nobody holds it."""
        with contextlib.suppress(OSError):
            touched = max((file.stat().st_mtime for file in self.path.iterdir()), default=None)
            return float("inf") if touched is None else self._now() - touched
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
        with contextlib.suppress(OSError):  # released, or taken by another, meanwhile
            for file in self.path.iterdir():
                with file.open("rb") as opened:  # an open file shows its age as the server knows it
                    state = file.name, os.fstat(opened.fileno()).st_mtime_ns
                if self._seen[0] != state:
                    self._seen = state, time.monotonic()
                elif time.monotonic() - self._seen[1] >= EXPIRY:
                    file.rename(self.path / self._name)
                    os.utime(self.path / self._name)
                    return True
        return False

    def _keep(self) -> None:
        while not self._done.wait(HEARTBEAT):
            try:
                os.utime(self.path / self._name)
            except FileNotFoundError:
                if not self._done.is_set():
                    warnings.warn(f"{self.path} was taken over by another process: this one had stopped", stacklevel=1)
                return
            except OSError:  # a server that does not answer now may do so next time
                continue
