"""Who is told how the training of a pool goes."""

from __future__ import annotations

from lrensemble.pool import Member, Pool, Record


class Watcher:
    """Who is told how the training of a pool goes (the shell shows progress); this one does nothing with it."""

    def start(self, pool: Pool, members: list[Member], finished: int) -> None: ...
    def member_done(self, record: Record) -> None: ...
    def stop(self) -> None: ...
