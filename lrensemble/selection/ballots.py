"""What selectors read: the ballots of many members, in pieces of bounded size, from memory or from disk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.metrics import find_metric, nll_of, nll_rows, resampled, settled, true_class, winners
from lrensemble.selection.votes import VOTES, counts_of, scaled
from lrensemble.votes import canonical_vote

OBJECTIVES = ("nll", "accuracy")  # means over rows, with fast ways; any other is a metric by its name
MEMORY = 2 * 2**30  # bytes
_TEAMS, _ROWS = 512, 8192  # in one product of weights and probabilities: 32 MB
_TOLERANCE = 0.01  # of a row's sum: what float16 and a sloppy export leave


class Ballots:
    """Predictions of M members on N rows with labels, as one vote sees them.

    Parameters
    ----------
    predictions : (M, N, C) array, or a sequence of (N, C) arrays with a ``shape``
        Probabilities; float16 is read as float32. A sequence of memory maps stays on disk.
    labels : (N,) array of int
    vote : str
        Name in `VOTES`.
    temperatures : (M,) array, optional
        Of the members, applied before the vote.
    memory : int
        Bytes that blocks may take; what is of the size rows x classes, or members x rows, comes on top.
    """

    def __init__(
        self,
        predictions: Any,
        labels: ArrayLike,
        *,
        vote: str = "soft",
        temperatures: Array | None = None,
        memory: int = MEMORY,
    ) -> None:
        self.predictions = predictions if hasattr(predictions, "shape") else np.asarray(predictions)
        self.labels = np.asarray(labels)
        self.vote = VOTES[canonical_vote(vote)]
        self.temperatures = temperatures
        self.memory = memory
        self.total, self.rows, self.classes = self.predictions.shape
        self.dtype = np.result_type(self.predictions.dtype, np.float32)
        self._is_plain = (
            isinstance(self.predictions, np.ndarray)
            and self.vote is VOTES["soft"]
            and temperatures is None
            and self.predictions.dtype == self.dtype
        )

    def check(self, names: Sequence[str] | None = None) -> None:
        """Raise `UserError` unless every row is a probability distribution, up to 1 % in its sum (used as it is).

        `names` of the members are for the message.
        """
        ones = np.ones(self.classes, dtype=self.dtype)
        for member in range(self.total):
            p = np.asarray(self.predictions[member], dtype=self.dtype)
            with np.errstate(invalid="ignore", over="ignore"):
                sums = p @ ones
                if p.min() >= 0 and (np.abs(sums - 1) <= _TOLERANCE).all():
                    continue
                row = int(np.argmin((p.min(1) >= 0) & (np.abs(sums - 1) <= _TOLERANCE)))
            raise UserError(
                f"predictions of member {member if names is None else names[member]}, row {row}: {_short(p[row])} "
                "are not probabilities "
                f"(sum {sums[row]:.4g}): give the softmax of logits, and leave out members with NaN"
            )

    # One piece at a time

    def probabilities(self, member: int, rows: Any = slice(None)) -> Array:
        """Of one member after its temperature: (n, C)."""
        p = np.asarray(self.predictions[member, rows], dtype=self.dtype)
        return p if self.temperatures is None else scaled(p, float(self.temperatures[member]))

    def member(self, member: int, rows: Any = slice(None)) -> Array:
        """Ballots of one member: (n, B)."""
        return self.vote.ballot(self.probabilities(member, rows))

    def at(self, members: Array, rows: Array) -> Array:
        """Ballots of the i-th member on the i-th row: (n, B)."""
        if self._is_plain:
            picked: Array = self.predictions[members, rows]
            return picked
        order = np.argsort(members, kind="stable")
        bounds = np.flatnonzero(np.diff(members[order], prepend=-1))
        parts = [self.member(int(members[part[0]]), rows[part]) for part in np.split(order, bounds[1:])]
        out = np.empty((len(members), parts[0].shape[1]), dtype=self.dtype)
        out[order] = np.concatenate(parts)
        return out

    def blocks(self, share: int = 4) -> Iterator[tuple[slice, Array]]:
        """Rows and the ballots (M, n, B) of all members on them; a block takes 1/`share` of the memory at most."""
        width = self.member(0, slice(0, 1)).shape[1]
        n = max(1, self.memory // share // (self.total * width * self.dtype.itemsize))
        for start in range(0, self.rows, n):
            rows = slice(start, min(start + n, self.rows))
            if self._is_plain:
                yield rows, self.predictions[:, rows]
            else:
                yield rows, np.stack([self.member(m, rows) for m in range(self.total)])

    def array(self) -> Array:
        """Probabilities of all members in one array (M, N, C); `UserError` where that is more than `memory`."""
        size = self.total * self.rows * self.classes * self.dtype.itemsize
        if isinstance(self.predictions, np.ndarray) and self.temperatures is None:
            return self.predictions
        if size > self.memory:
            raise UserError(
                f"this selector needs all predictions in memory: {size / 1e9:.1f} GB, the limit is "
                f"{self.memory / 1e9:.1f} GB: allow more memory, or use greedy, top-k or convex"
            )
        return np.stack([self.probabilities(m) for m in range(self.total)])

    def true(self) -> Array:
        """Probability of the true class by each member, for linear votes: (M, N)."""
        if self._is_plain:
            flat = np.arange(self.rows) * self.classes + self.labels
            return np.asarray(self.predictions.reshape(self.total, -1).take(flat, axis=1))
        out = np.empty((self.total, self.rows), dtype=self.dtype)
        for m in range(self.total):
            out[m] = true_class(self.vote.tally(self.member(m)), self.labels)
        return out

    # Votes and their scores

    def cast(self, weights: Array) -> Array:
        """Probabilities (N, C) of the team with these weights (M,), in float64; ties are equal numbers."""
        counts = counts_of(weights)
        total: Any = 0.0
        for m in np.flatnonzero(counts):
            total = total + float(counts[m]) * self.member(int(m)).astype(np.float64)
        return self.vote.outcome(total / counts.sum())

    def score(self, vote: Array, objective: str) -> float:
        """Of a vote (N, C), higher is better: minus the NLL in nats, the accuracy, or a metric with its sign."""
        return score_of(vote, self.labels, objective)

    def standard_error(self, vote: Array, objective: str) -> float:
        """Of the score of a vote (N, C); of a metric by the bootstrap. 0 for a single row."""
        if objective in OBJECTIVES:
            rows = _rows_of(vote, self.labels, objective)
            return float(rows.std(ddof=1) / math.sqrt(len(rows))) if len(rows) > 1 else 0.0
        return float(resampled(find_metric(objective), settled(vote), self.labels).std(ddof=1))

    def singles(self, objective: str) -> Array:
        """Score of every member alone, under this vote: (M,)."""
        return np.array([self.score(self.vote.tally(self.member(m)), objective) for m in range(self.total)])

    def prefixes(self, order: Array, objective: str) -> Array:
        """Scores of the equal vote of the first 1, 2, ... members of `order`."""
        total: Any = 0.0
        scores = []
        for k, m in enumerate(order, start=1):
            total = total + self.member(int(m)).astype(np.float64)
            scores.append(self.score(self.vote.tally(total / k), objective))
        return np.array(scores)

    def scores(self, weights: Array, objective: str) -> Array:
        """Scores of many teams, higher is better: (T,) from weights (T, M) whose rows sum to 1."""
        weights = np.asarray(weights, dtype=np.float64)
        if objective not in OBJECTIVES:
            return np.array([self.score(self.cast(row), objective) for row in weights])
        sums: Array = np.zeros(len(weights))
        if objective == "nll" and self.vote.linear:
            true = self.true()
            for start in range(0, len(weights), _TEAMS):
                for first in range(0, self.rows, _ROWS):
                    columns = true[:, first : first + _ROWS].astype(np.float64, copy=False)
                    vote = weights[start : start + _TEAMS] @ columns
                    sums[start : start + _TEAMS] -= nll_of(vote).sum(-1)
            return np.asarray(sums / self.rows)
        for rows, block in self.blocks(share=8):
            labels = self.labels[rows]
            flat = block.reshape(self.total, -1).astype(np.float64, copy=False)
            step = max(1, self.memory // 4 // (8 * flat.shape[1]))
            for start in range(0, len(weights), step):
                vote = (weights[start : start + step] @ flat).reshape(-1, *block.shape[1:])
                if not (self.vote.ordered and objective == "accuracy"):
                    vote = self.vote.tally(vote)
                score = -nll_rows(vote, labels) if objective == "nll" else winners(vote) == labels
                sums[start : start + step] += score.sum(-1)
        return np.asarray(sums / self.rows)


def team_vote(predictions: Any, weights: Array, vote: str = "soft", temperatures: Array | None = None) -> Array:
    """Probabilities (N, C), in float64, of a team from its members' predictions (S, N, C) and weights (S,)."""
    return Ballots(predictions, (), vote=vote, temperatures=temperatures).cast(np.asarray(weights))


def score_of(vote: Array, labels: Array, objective: str) -> float:
    """Of a vote (N, C) before its ties are settled, higher is better."""
    if objective in OBJECTIVES:
        return float(_rows_of(vote, labels, objective).mean())
    metric = find_metric(objective)
    return metric.sign * metric(settled(vote), labels)


def _rows_of(vote: Array, labels: Array, objective: str) -> Array:
    """Score of every row of a vote (N, C), higher is better: (N,)."""
    return -nll_rows(vote, labels) if objective == "nll" else np.asarray(winners(vote) == labels, float)


def checked_inputs(predictions: Any, labels: ArrayLike) -> tuple[Any, Array]:
    """Predictions and labels of matching shapes, labels within the classes; else `UserError`."""
    P, y = predictions if hasattr(predictions, "shape") else np.asarray(predictions), np.asarray(labels)
    if len(P.shape) != 3 or y.shape != (P.shape[1],):
        raise UserError(f"predictions must be (members, rows, classes) with a label a row, not {P.shape} and {y.shape}")
    members, rows, classes = P.shape
    if members == 0:
        raise UserError("there are no members to select from")
    if rows == 0 or classes == 0:
        raise UserError(f"predictions of shape {P.shape} hold nothing to select on")
    if y.dtype.kind not in "iu":
        raise UserError(f"labels must be integers from 0 to {classes - 1}, not {y.dtype}")
    if y.min() < 0 or y.max() >= classes:
        wrong = int(y.min()) if y.min() < 0 else int(y.max())
        raise UserError(f"label {wrong} is out of range: the predictions have {classes} classes, 0 to {classes - 1}")
    return P, y


def _short(row: Array) -> str:
    return "[" + ", ".join(f"{x:.4g}" for x in row[:4]) + (", ...]" if len(row) > 4 else "]")
