"""What decides a vote: by how much the true class is ahead of every other class, member by member.

Team T is right on row i iff for each class k != y the sum over its members of P[m, i, y] - P[m, i, k] is > 0 (for
k < y) or >= 0 (for k > y: the arg max takes the lowest of equal classes). Constraints that hold for every member hold
for every team and are dropped, and so are rows where all hold or where one fails for every member. (That is so for any
non-negative weights.) Sums of probabilities are rounded: every member's margin is moved by `TIE` against a lower class
and by as much in favour of the label before a higher one, so that votes within `TIE` are ties, and a sum of margins is
never 0 by chance.

A plurality vote is the same vote with one-hot predictions, whose sums are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.metrics.scores import TIE

_CHUNK = 2_000_000  # numbers in one intermediate array: 16 MB


@dataclass(frozen=True)
class Margins:
    """The constraints that can bind, grouped by row: Q constraints on R rows of M members.

    Attributes
    ----------
    values : (Q, M) float64
        Margins of the members; the tightest constraint of a row comes first.
    strict : (Q,) bool
        Must the sum be > 0, or only >= 0?
    starts : (R + 1,) int64
        Constraints of row r are ``starts[r]:starts[r + 1]``.
    times : (R,) int64
        How many rows of the data look like this (plurality: many do; soft vote: 1).
    always : int
        Rows on which every team is right.
    rows : int
        Rows of the data.
    """

    values: Array
    strict: Array
    starts: Array
    times: Array
    always: int
    rows: int


def soft_margins(predictions: Array, labels: Array) -> Margins:
    """Margins of the soft vote from probabilities (M, N, C) of any float type, read in slices of rows."""

    def slab(part: slice) -> Array:
        return np.asarray(predictions[:, part]).astype(np.float64, copy=False)

    members, rows, classes = predictions.shape
    return _margins(members, rows, classes, labels, slab, TIE)


def plurality_margins(predicted: Array, labels: Array) -> Margins:
    """Margins of the plurality vote from predicted classes (M, N); equal rows are merged."""
    members, rows = predicted.shape
    classes = int(max(predicted.max(), labels.max())) + 1
    kinds = np.arange(classes)
    return _merged(
        _margins(
            members, rows, classes, labels, lambda part: (predicted[:, part, None] == kinds).astype(np.float64), 0.0
        )
    )


def _margins(
    members: int, rows: int, classes: int, labels: Array, slab: Callable[[slice], Array], tie: float
) -> Margins:
    values, strict, counts = [np.empty((0, members))], [np.empty(0, dtype=bool)], [np.empty(0, dtype=np.int64)]
    always = 0
    step = max(1, _CHUNK // (members * classes))
    for start in range(0, rows, step):
        part = slice(start, min(rows, start + step))
        p, y = slab(part), labels[part]
        n = np.arange(len(y))
        d = p[:, n, y][:, :, None] - p
        must_beat = np.arange(classes) < y[:, None]  # lower classes win ties
        if tie:
            d += np.where(must_beat, -tie, tie)
        holds = np.where(must_beat, d > 0, d >= 0)
        other = np.ones((len(y), classes), dtype=bool)
        other[n, y] = False
        binds = other & ~holds.all(0)
        lost = (other & ~holds.any(0)).any(1)
        always += int((~binds.any(1)).sum())
        binds[lost] = False
        row, k = np.nonzero(binds)
        found = d[:, row, k].T
        order = np.lexsort((found.sum(1), row))
        values.append(found[order])
        strict.append(must_beat[row, k][order])
        per_row = binds.sum(1)
        counts.append(per_row[per_row > 0])
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    times = np.ones(len(starts) - 1, dtype=np.int64)
    return Margins(np.ascontiguousarray(np.concatenate(values)), np.concatenate(strict), starts, times, always, rows)


def _merged(m: Margins) -> Margins:
    """Merge rows with equal constraints (in any order, so constraints are sorted first)."""
    seen: dict[bytes, list[int]] = {}
    small = np.concatenate([m.values, m.strict[:, None]], axis=1).astype(np.int8)
    for r in range(len(m.times)):
        key = b"".join(sorted(line.tobytes() for line in small[m.starts[r] : m.starts[r + 1]]))
        seen.setdefault(key, []).append(r)
    keep = [same[0] for same in seen.values()]
    index = np.concatenate([np.arange(m.starts[r], m.starts[r + 1]) for r in keep] or [np.empty(0, dtype=np.int64)])
    starts = np.concatenate([[0], np.cumsum([m.starts[r + 1] - m.starts[r] for r in keep])]).astype(np.int64)
    times = np.array([len(same) for same in seen.values()], dtype=np.int64)
    return Margins(m.values[index], m.strict[index], starts, times, m.always, m.rows)
