"""Progress of a training pool on stderr. The epochs are counted in the files, so worker processes need no channel."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from lrensemble.errors import UserError
from lrensemble.metrics import standard_error
from lrensemble.opening import MOST_HISTORY, read_bytes
from lrensemble.pool import Member, Pool, Record
from lrensemble.terminal import shown
from lrensemble.training.watcher import Watcher

SECONDS = 0.5  # between two looks at the files
LINE = 60.0  # seconds between two lines where no bar is drawn: a log file


def how_far(done: int, total: int, new: int, seconds: float) -> str:
    """Epochs of all members, and the time that the others will take where `new` of them took `seconds`."""
    left = f", about {timedelta(seconds=round(seconds / new * (total - done)))} left" if new else ""
    return f"{done:,} of {total:,} epochs{left}"


class Progress(Watcher):
    """A bar over the epochs of all members, and a line for each member that finishes.

    `console`: where to; default stderr, of a notebook too (without a bar, which would need ipywidgets).
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(
            stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False, force_jupyter=False
        )

    def start(self, pool: Pool, members: list[Member], finished: int) -> None:
        task = pool.task
        self.val_rows, self.total, self.done = task.rows["val"], len(members) + finished, finished
        self.members = {member.id: member for member in members}
        self.ended: set[str] = set()
        training = {member.id: member.record.spec.training for member in members}
        self.epochs = {member_id: entry.epochs for member_id, entry in training.items() if entry}
        skipped = f", {finished} of them finished before" if finished else ""
        who = "member" if self.total == 1 else "members"
        self.console.print(Text(shown(f"{pool.path}: {self.total} {who}{skipped}")))
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal or not members,
            transient=True,
        )
        self.task_id = self.bar.add_task("training", total=sum(self.epochs.values()))
        self.bar.start()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        counts = dict.fromkeys(self.members, 0)
        begun, started = None, time.monotonic()
        said = started
        while not self.stopped.wait(SECONDS):
            for member_id, member in self.members.items():
                epochs = self.epochs.get(member_id, 0)
                if member_id in self.ended:  # perhaps early
                    counts[member_id] = epochs
                elif counts[member_id] < epochs:
                    try:
                        counts[member_id] = read_bytes(member.path / "history.jsonl", MOST_HISTORY).count(b"\n")
                    except UserError:  # not there yet
                        continue
            done, now = sum(counts.values()), time.monotonic()
            begun = done if begun is None else begun  # what was trained before says nothing of the speed
            self.bar.update(self.task_id, completed=done)
            if not self.console.is_terminal and now - said >= LINE:
                said = now
                self.console.print(how_far(done, sum(self.epochs.values()), done - begun, now - started))

    def member_done(self, record: Record) -> None:
        self.done += 1
        self.ended.add(record.id)
        if record.status == "complete":
            accuracy = record.metrics["val"]["accuracy"]
            error = 100 * standard_error(accuracy or 0.0, self.val_rows)
            result = f"validation accuracy {100 * (accuracy or 0.0):.2f} ± {error:.2f} % (n = {self.val_rows:,})"
        else:
            result = f"{record.status.upper()}: {record.reason}"
        seconds = f", {record.costs['seconds']:.1f} s" if "seconds" in record.costs else ""
        self.bar.console.print(
            Text(
                shown(
                    f"[{self.done}/{self.total}] {record.id} {record.spec.label} seed {record.spec.seed}: "
                    f"{result}{seconds}"
                )
            )
        )

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.bar.stop()
