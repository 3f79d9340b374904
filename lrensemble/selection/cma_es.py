"""Weights by CMA-ES, for objectives that are not smooth (Purucker & Beel 2023, "CMA-ES for Post Hoc Ensembling")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.installing import needed
from lrensemble.selection.ballots import Ballots
from lrensemble.selection.base import Selector, Step


@dataclass(eq=False, repr=False)
class CMAES(Selector):
    """Any weights on the simplex, by the covariance matrix adaptation evolution strategy (package `cmaes`).

    Starts from equal weights. A point of the search becomes a team by dropping what is negative, keeping the `size`
    largest weights, and dividing by the sum.

    Parameters
    ----------
    objective : {"nll", "accuracy"} or name of a metric
        Accuracy overfits more the freer the weights are; for NLL `Convex` is exact and faster.
    size : at most so many members
    generations : int
        Of 4 + 3 ln(M) teams each.
    seed : int

    Attributes
    ----------
    trajectory_ : list of Step
        The best team so far, whenever it changed.
    """

    objective: str = "nll"
    size: int | None = None
    generations: int = 100
    seed: int = 0
    vote: str = "soft"
    temperature: bool = False
    time_limit: float | None = None
    one_se: bool = False

    def _check(self, total: int) -> None:
        super()._check(total)
        with needed("the selector cma-es needs the package cmaes", "cmaes"):
            import cmaes  # noqa: F401

    def _choose(self, ballots: Ballots) -> tuple[Array, int]:
        from cmaes import CMA

        total = ballots.total
        start = self._teams(np.ones((1, total)))
        self.trajectory_.append(Step(start[0], float(ballots.scores(start, self.objective)[0])))
        tried = 1
        if total == 1:  # the package wants two dimensions
            return start[0], tried
        search = CMA(mean=np.ones(total), sigma=0.5, seed=self.seed)
        for generation in range(self.generations):
            if self._over(f"{generation} of {self.generations} generations"):
                break
            points = np.stack([search.ask() for _ in range(search.population_size)])
            teams = self._teams(points)
            scores = ballots.scores(teams, self.objective)
            tried += len(teams)
            best = int(np.argmax(scores))
            if scores[best] > self.trajectory_[-1].score:
                self.trajectory_.append(Step(teams[best], float(scores[best])))
            search.tell([(point, -float(score)) for point, score in zip(points, scores, strict=True)])
            if search.should_stop():
                break
        return self.trajectory_[-1].weights, tried

    def _teams(self, points: Array) -> Array:
        """Points of the search (T, M) -> weights (T, M)."""
        weights = np.maximum(points, 0)
        weights[weights.sum(1) == 0] = 1
        if self.size is not None and self.size < points.shape[1]:
            drop = np.argsort(-weights, axis=1, kind="stable")[:, self.size :]
            np.put_along_axis(weights, drop, 0, axis=1)
        return np.asarray(weights / weights.sum(1, keepdims=True))
