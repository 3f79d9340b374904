"""The histories of a pool as TensorBoard event files."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lrensemble.errors import UserError
from lrensemble.installing import needed
from lrensemble.pool import Member, Pool, Record
from lrensemble.pool.files import clear_disk_errors
from lrensemble.pool.links import delete, refuse_links

LONGEST = 100  # characters of a run's name that are the policy; a file's name has at most 255 bytes
EVENTS = "events.out.tfevents.*"


@dataclass(frozen=True)
class LoggedRun:
    """One member's event files: the folder, and how many lines of history are in it."""

    path: Path
    member: str
    lines: int


def write_events(pool: Pool, folder: Path) -> tuple[list[LoggedRun], list[str]]:
    """Write one TensorBoard run for each member with a history, finished or not, into `folder`.

    A run that is there already is replaced: again and again while members train is fine.

    Returns
    -------
    runs : list of LoggedRun
    skipped : list of str
        Members that have no history or cannot be read, and why.

    Raises
    ------
    UserError
        tensorboard is not installed; the folder cannot be written.
    """
    TensorBoardRun.check()
    runs, skipped = [], []
    for name, member in _members(pool):
        try:
            record, history = member.record, member.history()
        except UserError as error:
            skipped.append(str(error))
            continue
        if not history:
            skipped.append(f"member {member.id} ({member.status}) has no history")
            continue
        run = TensorBoardRun(folder / (name + run_name(record)), record, _start(member, history))
        run.log(history)
        run.end(record, member.status)
        runs.append(LoggedRun(run.path, member.id, len(history)))
    return runs, skipped


class TensorBoardRun:
    """The event files of one member in a folder of its own; those that are there are replaced.

    Parameters
    ----------
    start : seconds since 1970 at which the training began; default: now, less the seconds of the first line
    """

    def __init__(self, path: Path, record: Record, start: float | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path, self._start, self._lines = path, start, 0
        self._last: dict[str, float] = {}
        with clear_disk_errors(path), _quiet_threads():
            refuse_links(path, itself=True)
            for old in path.glob(EVENTS):
                delete(old)
            self._writer = SummaryWriter(str(path))

    @staticmethod
    def check() -> None:
        """Raise `UserError` where tensorboard is not installed."""
        with needed("TensorBoard's files need its package", "tensorboard"):
            import torch.utils.tensorboard  # noqa: F401

    def log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines of the history, and write them."""
        with clear_disk_errors(self.path), _quiet_threads():
            for tag, value, step, seconds in scalars(lines, self._lines):
                self._start = time.time() - seconds if self._start is None else self._start
                self._writer.add_scalar(tag, value, step, walltime=self._start + seconds)
                self._last[tag] = value
            self._writer.flush()
        self._lines += len(lines)

    def end(self, record: Record, status: str | None = None) -> None:
        """Add what identifies the member, among it its policy, and how it ended."""
        from torch.utils.tensorboard.summary import hparams

        start = self._start or time.time()
        results = {tag: self._last[tag] for tag in ("accuracy/val", "loss/val") if tag in self._last}
        with clear_disk_errors(self.path), _quiet_threads(), self._writer as writer:
            writer.add_text("member", _text(record, status or record.status), 0, walltime=start)
            # Not writer.add_hparams: that makes a second run of every member.
            for summary in hparams(facts(record), results):  # type: ignore[no-untyped-call]
                writer._get_file_writer().add_summary(summary)


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    """The writer's thread prints its traceback of a full disk, and raises the same error here."""
    hook, threading.excepthook = threading.excepthook, lambda args: None
    try:
        yield
    finally:
        threading.excepthook = hook


def _members(pool: Pool) -> Iterator[tuple[str, Member]]:
    for member in pool.members:
        yield "", member
    for member in pool.control.members if pool.control else []:
        yield "control/", member


def run_name(record: Record) -> str:
    """What the run is called: policy, seed and id, in characters that every file system takes.

    The id makes it unique.
    """
    label = re.sub(r"[^\w.,=()%+-]+", "_", record.spec.label)[:LONGEST].strip("._")
    return f"{label}_seed{record.spec.seed}_{record.id}"


def scalars(history: Sequence[Mapping[str, Any]], before: int = 0) -> Iterator[tuple[str, float, int, float]]:
    """Tag, value, step and seconds of every number: ``val_loss`` is ``loss/val``, so that splits share a plot.

    Numbers that were not finite are NaN. A line without a step counts as its epoch, or its number after `before`.
    """
    for number, line in enumerate(history, before + 1):
        step = line.get("step", line.get("epoch", number))
        for key, value in line.items():
            split, _, metric = key.partition("_")
            tag = f"{metric}/{split}" if split in ("train", "val") and metric else key
            if key == "step" or not (value is None or isinstance(value, int | float)):
                continue
            yield tag, float("nan") if value is None else float(value), int(step or 0), float(line.get("seconds") or 0)


def _start(member: Member, history: list[dict[str, Any]]) -> float:
    """When the training began, as well as anyone knows: when it was seen last, less the seconds until then."""
    seconds = float(history[-1].get("seconds") or 0)
    if member.record.finished:
        return datetime.fromisoformat(member.record.finished).timestamp() - seconds
    return (member.path / "history.jsonl").stat().st_mtime - seconds


def facts(record: Record) -> dict[str, str | int | float | bool]:
    """Hyperparameters, as TensorBoard takes them: plain values."""
    spec = record.spec
    training = spec.training.model_dump(exclude_defaults=True) if spec.training else {}
    facts = {
        "policy": spec.policy,
        "derived": spec.derived,
        "model": spec.model,
        "optimizer": spec.optimizer,
        "seed": spec.seed,
        **training,
        **spec.notes,
    }
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in facts.items()
        if value is not None
    }


def _text(record: Record, status: str) -> str:
    """A table in Markdown."""
    known = {"status": status, **facts(record), "reason": record.reason, "parent": record.parent, **record.costs}
    rows = [
        f"| {key} | {str(value).replace('|', chr(92) + '|')} |" for key, value in known.items() if value is not None
    ]
    return "\n".join(["| | |", "|---|---|", *rows])
