"""One member of a pool on disk."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from lrensemble.errors import MachineError, UserError
from lrensemble.opening import MOST_HISTORY, MOST_LINE, clear_read_errors, damaged, file_hash
from lrensemble.pool.files import Once, clear_disk_errors, read_model, read_text, write_sealed
from lrensemble.pool.links import link_above, refuse_links
from lrensemble.pool.locks import alone, is_held
from lrensemble.pool.record import FINISHED, Record
from lrensemble.pool.shown import member_html

HISTORY = "history.jsonl"


class Member:
    """One folder under ``members/``. Its files are read when asked for, and each once as long as it stays as it is.

    The record is as it was when it was first asked for; a `Pool` gives another `Member` once it has been replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self._once = Once()

    _repr_html_ = member_html

    @property
    def record_path(self) -> Path:
        return self.path / "record.json"

    @cached_property
    def record(self) -> Record:
        """The record; `UserError` when it is missing, cut off, of another kind, changed or of another member."""
        if self.path.is_symlink() and not self.record_path.exists():
            raise UserError(
                f"{self.path} is a link to {self.path.readlink()}, and no member is there: mount the disk that it is "
                "on, or remove the link"
            )
        fix = f"delete the folder {self.path} and train or import it again"
        record = read_model(Record, self.record_path, fix)
        if record.id != self.id:
            raise UserError(f"{self.path} is a copy of member {record.id}: move it out of the pool")
        if record.spec.id(record.data_fingerprint) != record.id:
            raise UserError(f"{self.record_path}: its spec is not the one that its id {record.id} was made of: {fix}")
        return record

    def write_record(self, record: Record) -> None:
        write_sealed(self.record_path, record.model_dump(mode="json"))
        self.__dict__["record"] = record

    @property
    def status(self) -> str:
        """planned, running, complete, diverged, failed, or damaged (the record cannot be read)."""
        try:
            status = self.record.status
        except MachineError:
            raise
        except UserError:
            return "damaged"
        return "running" if status in ("planned", "failed") and self.is_held() else status

    @contextlib.contextmanager
    def hold(self, *, wait: bool = True) -> Iterator[None]:
        """Be the only one who plans or trains this member; see `lrensemble.pool.locks`.

        Raises ``filelock.Timeout`` when another process holds it and `wait` is False, `UserError` for a member behind
        a link.
        """
        refuse_links(self._lock_path, itself=True)
        with clear_disk_errors(self.path):
            self.path.parent.mkdir(exist_ok=True)
            self.path.mkdir(exist_ok=True)
        # Whoever waits for it finds the member planned or finished, and does nothing.
        with alone(self._lock_path, timeout=-1 if wait else 0):
            yield

    @property
    def _lock_path(self) -> Path:
        return self.path / ".lock"

    def is_held(self) -> bool:
        """True while a process plans, trains or cleans this member."""
        return not link_above(self._lock_path, itself=True) and is_held(self._lock_path)

    def check_file(self, name: str) -> Path:
        """Path of a file of a complete member, checked against the size and hash in its record."""
        path, info = self.path / name, self.record.files.get(name)
        if name in self.record.removed:
            raise UserError(
                f"{path} was deleted by lrensemble gc on {self.record.removed[name][:10]} to free disk; to have it "
                f"again, delete the folder {self.path} and train or import it again"
            )
        if info is None:
            raise UserError(f"{path}: the record of member {self.id} knows no such file ({self.record.status})")
        with clear_read_errors(path):
            found = path.stat() if path.is_file() else None
        size = found.st_size if found else None
        if found is None or size != info.bytes or self._once(path, lambda: file_hash(path)) != info.sha256:
            what = "it is missing" if size is None else f"{size:,} of {info.bytes:,} bytes, or other content"
            raise damaged(path, what, f"delete the folder {self.path} and train or import it again")
        return path

    def history(self) -> list[dict[str, Any]]:
        """One dict per evaluation while training: step, epoch, lr, losses, accuracies, seconds.

        Of a finished member checked against its record.
        """
        path = self.path / HISTORY
        if self.record.status in FINISHED and HISTORY in self.record.files:
            self.check_file(HISTORY)
        elif not path.exists():
            return []
        *lines, rest = read_text(path, MOST_HISTORY).split("\n")
        try:
            history = [_line(text) for text in lines]
        except (ValueError, RecursionError) as error:
            raise damaged(path, error) from None
        if rest or not all(isinstance(line, dict) for line in history):
            raise damaged(path, "its last line has no end" if rest else "not a table")
        return history

    def weights(self) -> dict[str, Any]:
        """The final weights as a state dict."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.check_file("weights.safetensors")
        try:
            with clear_read_errors(path):
                return dict(load_file(path))
        except SafetensorError as error:
            raise damaged(path, error) from None


def count_statuses(members: Iterable[Member], left_out: Container[str]) -> str:
    """How many members have which status: ``2 complete, 1 damaged``; those whose ids are `left_out` are damaged."""
    counts = Counter("damaged" if member.id in left_out else member.status for member in members)
    return ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))


def _line(text: str) -> dict[str, Any]:
    """A line of a history: names and plain values; ValueError for anything else."""
    if len(text) > MOST_LINE:
        raise ValueError(f"a line of {len(text):,} characters")
    line = json.loads(text)
    if not isinstance(line, dict) or any(isinstance(value, list | dict) for value in line.values()):
        raise ValueError("a line is not of plain values by name")
    return line
