"""The selectors that everybody must beat: best single, all, top-k, random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.selection.ballots import Ballots
from lrensemble.selection.base import Selector, Step, team_of


@dataclass(eq=False, repr=False)
class All(Selector):
    """Every member with equal weight."""

    vote: str = "soft"
    temperature: bool = False

    def _choose(self, ballots: Ballots) -> tuple[Array, int]:
        return np.ones(ballots.total), 1


@dataclass(eq=False, repr=False)
class TopK(Selector):
    """The `size` members with the best scores of their own; without `size`, the number that votes best together.

    Ties go to the lower index, and to the smaller team. `trajectory_` (without `size`) holds the teams of every number.
    """

    size: int | None = None
    objective: str = "nll"
    vote: str = "soft"
    temperature: bool = False
    one_se: bool = False

    def _choose(self, ballots: Ballots) -> tuple[Array, int]:
        total = ballots.total
        ranked = np.argsort(-ballots.singles(self.objective), kind="stable")
        if self.size is not None:
            return team_of(ranked[: self.size], total), total
        scores = ballots.prefixes(ranked, self.objective)
        self.trajectory_ = [
            Step(team_of(ranked[:k], total) / k, float(score), int(ranked[k - 1]))
            for k, score in enumerate(scores, start=1)
        ]
        return self.trajectory_[int(np.argmax(scores))].weights, 2 * total


class BestSingle(TopK):
    """The one member with the best score."""

    def __init__(self, objective: str = "nll", vote: str = "soft", temperature: bool = False) -> None:
        super().__init__(size=1, objective=objective, vote=vote, temperature=temperature)


@dataclass(eq=False, repr=False)
class Random(Selector):
    """A random team of `size` members (default 5, or all of a smaller pool) with equal weights."""

    size: int | None = None
    seed: int = 0
    vote: str = "soft"
    temperature: bool = False

    def _choose(self, ballots: Ballots) -> tuple[Array, int]:
        total = ballots.total
        size = min(5, total) if self.size is None else self.size
        return team_of(np.random.default_rng(self.seed).choice(total, size, replace=False), total), 1
