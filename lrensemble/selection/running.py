"""Which member to add next: the score of a running sum of ballots with each candidate added.

Three of a kind, with ``ties(candidates)``, ``add(member)`` once (more), and ``reset()`` to nothing. ``ties`` gives the
candidates with the best score after their addition and that score, to the last bit what the plain loop over all gives:

- `RunningNLL` for linear votes: needs the true class's probabilities only, and evaluates few candidates in full;
- `RunningAccuracy` (module `flips`) for votes that keep the order of the classes;
- `RunningVote` for everything else: the plain loop.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.metrics import TINY
from lrensemble.selection.ballots import Ballots
from lrensemble.selection.screens import Bounds, Products, make_screen

_CACHE = 60_000  # numbers of candidates that are evaluated together: 480 KB
_FEW = 4  # candidates that cost less than a screen of all


class RunningNLL:
    """Minus the NLL of a linear vote: a screen (module `screens`) leaves few candidates for the plain loop.

    Without `candidates` worth a screen (a handful of ties) the screen is never made.
    """

    def __init__(self, ballots: Ballots) -> None:
        self.true = ballots.true()
        self._batch = max(1, _CACHE // self.true.shape[1])
        self.reset()

    @functools.cached_property
    def _screen(self) -> Products | Bounds:
        return make_screen(self.true)

    def reset(self) -> None:
        self.sum = np.zeros(self.true.shape[1])
        self.count = 0

    def add(self, member: int) -> None:
        self.sum += self.true[member]
        self.count += 1

    def scores(self, members: Array) -> Array:
        """After the addition of each of the members, with the roundings of the plain loop over `nll_of`."""
        q = self.sum + self.true[members]
        q /= self.count + 1
        np.clip(q, TINY, 1.0, out=q)
        np.log(q, out=q)
        return np.asarray(q.mean(-1))

    def ties(self, candidates: Array) -> tuple[Array, float]:
        close = candidates if len(candidates) <= _FEW else self._screen.near(self.sum, self.count + 1, candidates)
        exact = np.concatenate([self.scores(close[i : i + self._batch]) for i in range(0, len(close), self._batch)])
        return close[exact == exact.max()], float(exact.max())


class RunningVote:
    """Any vote and objective, by the plain loop: every candidate's ballots are read in every step."""

    def __init__(self, ballots: Ballots, objective: str) -> None:
        self.ballots = ballots
        self.objective = objective
        self.reset()

    def reset(self) -> None:
        self.sum: Any = 0.0
        self.count = 0

    def add(self, member: int) -> None:
        self.sum = self.sum + self.ballots.member(member).astype(np.float64)
        self.count += 1

    def score(self, member: int) -> float:
        """After the addition of `member`."""
        total = self.sum + self.ballots.member(member).astype(np.float64)
        return self.ballots.score(self.ballots.vote.tally(total / (self.count + 1)), self.objective)

    def ties(self, candidates: Array) -> tuple[Array, float]:
        scores = np.array([self.score(int(m)) for m in candidates])
        return candidates[scores == scores.max()], float(scores.max())
