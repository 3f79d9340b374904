"""Several pools on one page: what each came to, with links to their reports, and which is better on the same rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lrensemble.evaluation.paired import PairedRows, RowScores
from lrensemble.evaluation.results import Gain
from lrensemble.pool import Pool
from lrensemble.report.page.changes import votes_of
from lrensemble.report.page.info import Report

NAME = "report.html"  # of a pool's own page, in its folder


@dataclass(frozen=True)
class PoolRow:
    """One pool on the page.

    Attributes
    ----------
    name : its folder, from that of the page
    link : address of its report from there
    accuracy_over_first, nll_over_first : Gain or None
        Of its team (without one: its best single member) over that of the first pool, paired on the test rows; None
        where its data are others, and of the first pool itself.
    """

    report: Report
    name: str
    link: str
    accuracy_over_first: Gain | None
    nll_over_first: Gain | None


def pool_rows(pools: Sequence[tuple[Pool, Report]], page: Path) -> list[PoolRow]:
    """What stands on `page` about pools and their reports, in their order."""
    folder, (first, _) = page.parent.resolve(), pools[0]
    alike = [pool.task.data_fingerprint == first.task.data_fingerprint for pool, _ in pools]
    labels = first.labels("test")
    scores = []
    for pool, report in (pair for pair, is_alike in zip(pools, alike, strict=True) if is_alike):
        vote = votes_of(pool, report.team, pool.best_single())[-1]
        scores.append(RowScores.of(vote.probabilities, labels, vote.is_hard))
    paired, rows = PairedRows(scores), []
    numbers = iter(range(len(scores)))
    for (pool, report), is_alike in zip(pools, alike, strict=True):
        name = Path(os.path.relpath(pool.path.resolve(), folder)).as_posix()
        number = next(numbers) if is_alike else 0
        gains = (paired.accuracy_gain(number, 0), paired.nll_gain(number, 0)) if number else (None, None)
        rows.append(PoolRow(report, name, quote(f"{name}/{NAME}"), *gains))
    return rows
