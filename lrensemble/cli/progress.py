"""Who is told how the training of a pool goes: the terminal, and the trackers that were asked for."""

from __future__ import annotations

from collections.abc import Sequence

from lrensemble.cli import output
from lrensemble.training.progress import Progress
from lrensemble.training.watcher import Watcher


def progress(track: Sequence[str] = ()) -> Watcher:
    """The bar, and the trackers of `output.add_track`."""
    watcher: Watcher = Progress(output.console(stderr=True, soft_wrap=True))
    if track:
        from lrensemble.report.trackers import Tracker

        for where in track:
            watcher = Tracker(where, watcher)
    return watcher
