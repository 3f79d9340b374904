"""One member of a pool on disk."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from lrensemble.errors import UserError
from lrensemble.pool.files import file_hash, read_text, write_json
from lrensemble.pool.record import Record


class Member:
    """One folder under ``members/``. Its files are read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name

    @property
    def record_path(self) -> Path:
        return self.path / "record.json"

    @cached_property
    def record(self) -> Record:
        """The record; `UserError` when it is missing, cut off or of another kind."""
        try:
            return Record.model_validate_json(read_text(self.record_path))
        except ValidationError as error:
            raise UserError(
                f"{self.record_path}: cut off or damaged ({error.errors()[0]['msg']}): "
                f"delete the folder {self.path} and train again"
            ) from None

    def write_record(self, record: Record) -> None:
        write_json(self.record_path, record.model_dump(mode="json"))
        self.__dict__["record"] = record

    @property
    def status(self) -> str:
        """planned, running, complete, diverged, failed, or damaged (the record cannot be read)."""
        try:
            status = self.record.status
        except UserError:
            return "damaged"
        return "running" if status in ("planned", "failed") and self._is_locked() else status

    def lock(self) -> FileLock:
        """The lock of whoever plans or trains this member; the kernel frees it when that process dies."""
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / ".lock")

    def _is_locked(self) -> bool:
        if not (self.path / ".lock").exists():
            return False
        try:
            with self.lock().acquire(blocking=False):
                return False
        except (Timeout, OSError):
            return True

    def check_file(self, name: str) -> Path:
        """Path of a file of a complete member, checked against the size and hash in its record."""
        path, info = self.path / name, self.record.files.get(name)
        if info is None:
            raise UserError(f"{path}: the record of member {self.id} knows no such file ({self.record.status})")
        size = path.stat().st_size if path.is_file() else None
        if size != info.bytes or file_hash(path) != info.sha256:
            found = "it is missing" if size is None else f"{size:,} of {info.bytes:,} bytes, or other content"
            raise UserError(f"{path}: cut off or damaged ({found}): delete the folder {self.path} and train again")
        return path

    def history(self) -> list[dict[str, Any]]:
        """One dict per evaluation while training: step, epoch, lr, losses, accuracies, seconds."""
        path = self.path / "history.jsonl"
        if not path.exists():
            return []
        try:
            return [json.loads(line) for line in read_text(path).splitlines()]
        except ValueError as error:
            raise UserError(f"{path}: cut off or damaged ({error})") from None

    def weights(self) -> dict[str, Any]:
        """The final weights as a state dict."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.check_file("weights.safetensors")
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise UserError(f"{path}: cut off or damaged ({error})") from None
