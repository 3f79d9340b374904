"""What all selectors share: the interface, the steps of a trajectory, and the score of many teams at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.metrics import find_metric
from lrensemble.selection.ballots import MEMORY, Ballots, checked_inputs, team_vote
from lrensemble.selection.votes import fit_temperature
from lrensemble.votes import canonical_vote


class Step(NamedTuple):
    """A team on the way to the result."""

    weights: Array  # (M,), sum 1
    score: float  # on the rows of `fit`, higher is better: accuracy, minus the NLL in nats, or a metric with its sign
    member: int = -1  # the one that was added, where it was one

    @property
    def size(self) -> int:
        """Number of members."""
        return int(np.count_nonzero(self.weights))


class Incompatible(UserError):
    """A selector cannot do what is asked of it (a vote, a temperature), where another one may."""


class Selector(BaseEstimator):  # type: ignore[misc]
    """Choose a team, i.e. a weight for every member, from predictions on validation data.

    A selector stores its arguments untouched and implements ``_choose(ballots)``, or, where it needs all
    probabilities in memory and knows the soft vote only, ``_select(P, y)``. Most selectors take some of the first six
    attributes as arguments; their own descriptions name what is particular to them.

    Attributes
    ----------
    objective : {"nll", "accuracy"} or name of a metric
    size : int, optional
        Number of members.
    vote : str
        The vote that is optimised, and used; see `VOTES`.
    temperature : bool
        Scale every member's confidence on the same rows first.
    time_limit : float, optional
        Seconds; then the best so far is returned and `stopped_` says so.
    one_se : bool
        Return the smallest team of the trajectory within one standard error of the best.
    weights_ : (M,) array
        Non-negative, sums to 1; 0 for members that are not in the team.
    members_ : (S,) array of int
        Indices of the team's members.
    teams_tried_ : int
        How many teams were scored to find this one: the more, the more its validation score promises too much.
    trajectory_ : list of Step
        Teams on the way, for selectors that go one; else empty.
    temperatures_ : (M,) array or None
        Of all members, when `temperature` is True.
    stopped_ : str
        Why the search ended early, in words; else empty.
    """

    objective = "nll"
    size: int | None = None
    vote = "soft"
    temperature = False
    time_limit: float | None = None
    one_se = False

    weights_: Array
    members_: Array
    teams_tried_: int
    trajectory_: list[Step]
    temperatures_: Array | None
    stopped_: str

    def fit(
        self,
        predictions: Any,
        labels: ArrayLike,
        *,
        costs: ArrayLike | None = None,
        memory: int = MEMORY,
        watch: Callable[[str], bool] = lambda done: False,
    ) -> Self:
        """Select from probabilities (M, N, C) and labels (N,).

        Parameters
        ----------
        predictions : (M, N, C) array, or a sequence of (N, C) arrays with a ``shape``
            Any float type. Memory maps stay on disk where the selector can do with pieces. Rows may miss the sum 1
            by 1 %, and are used as they are.
        costs : (M,) array, optional
            Inference cost of every member, in any unit, for selectors that weigh it; default 1 each.
        memory : int
            Bytes that pieces in memory may take, beside arrays of the size rows x classes and members x rows.
        watch : callable
            Told by a search, again and again, what it has tried; where it returns True the best so far is taken.

        Raises
        ------
        UserError
            Impossible parameters; labels out of range; rows that are not probabilities (NaN, logits).
        """
        P, y = checked_inputs(predictions, labels)
        self._check(len(P))
        self.costs_ = _checked_costs(costs, len(P))
        ballots = Ballots(P, y, memory=memory)
        ballots.check()
        self.temperatures_ = None
        if self.temperature:
            fitted = [fit_temperature(ballots.probabilities(m), y) for m in range(len(P))]
            self.temperatures_ = np.array(fitted)
        ballots = Ballots(P, y, vote=self.vote, temperatures=self.temperatures_, memory=memory)
        self.trajectory_, self.stopped_ = [], ""
        self._watch, self._late = watch, deadline(self.time_limit)
        try:
            weights, self.teams_tried_ = self._choose(ballots)
        finally:
            del self._watch, self._late
        if self.one_se:
            weights = smallest_within_one_se(self.trajectory_, ballots, self.objective)
        self.weights_ = weights / weights.sum()
        self.members_ = np.flatnonzero(weights)
        return self

    def _check(self, total: int) -> None:
        """Raise `UserError` for parameters that are impossible with `total` members."""
        find_metric(self.objective, "objective")
        canonical_vote(self.vote)
        if self.size is not None and not 1 <= self.size <= total:
            raise UserError(f"size {self.size} is not possible: the pool has {total} members to choose from")
        if self.time_limit is not None and not self.time_limit > 0:
            raise UserError(f"time_limit {self.time_limit} is not possible: give seconds above 0")

    def _over(self, done: str) -> bool:
        """Whether a search must end with the best so far; `done` says in words how far it is."""
        if self._watch(done):
            self.stopped_ = f"interrupted after {done}"
        elif self._late():
            self.stopped_ = f"time limit of {self.time_limit:g} s after {done}"
        return bool(self.stopped_)

    def _choose(self, ballots: Ballots) -> tuple[Array, int]:
        """Return (weights up to a factor, number of teams scored)."""
        return self._select(ballots.array(), ballots.labels)

    def _select(self, P: Array, y: Array) -> tuple[Array, int]:
        """The same from probabilities (M, N, C) in memory, for the soft vote."""
        raise NotImplementedError

    def predict_proba(self, predictions: Any) -> Array:
        """Vote of the team: (N, C) from the predictions (M, N, C) of all members, in the order of `fit`."""
        return team_vote(predictions, self.weights_, self.vote, self.temperatures_)

    def predict(self, predictions: Any) -> Array:
        """Class with the most probability, ties to the lower class: (N,) from (M, N, C)."""
        return np.asarray(self.predict_proba(predictions).argmax(-1))


def _checked_costs(costs: ArrayLike | None, total: int) -> Array:
    if costs is None:
        return np.ones(total)
    values = np.asarray(costs, dtype=np.float64)
    if values.shape != (total,) or not (np.isfinite(values) & (values >= 0)).all():
        raise UserError(f"costs must be {total} finite numbers >= 0, one a member, not {costs}")
    return values


def smallest_within_one_se(
    candidates: Sequence[Step], ballots: Ballots, objective: str, *, costs: Array | None = None
) -> Array:
    """Weights of the smallest candidate whose score is within one standard error of the best (Breiman et al. 1984).

    Ties of size go to the better score, then to the earlier candidate; with `costs` (M,) the cheapest is taken instead
    of the smallest. `UserError` without candidates.
    """
    if not candidates:
        raise UserError("the one-standard-error rule needs teams of several sizes: use it with greedy, top-k or pareto")
    best = max(candidates, key=lambda step: step.score)  # of equals the first
    error = ballots.standard_error(ballots.cast(best.weights), objective)
    price = np.ones(ballots.total) if costs is None else costs
    ranked = sorted(candidates, key=lambda step: (price[step.weights > 0].sum(), -step.score))
    return np.asarray(next(step for step in ranked if best.score - step.score <= error).weights)


def team_of(members: ArrayLike, total: int) -> Array:
    """Equal weights for these member indices, 0 for the rest."""
    weights = np.zeros(total)
    weights[np.asarray(members)] = 1.0
    return weights


def deadline(seconds: float | None) -> Callable[[], bool]:
    """A function that says whether so many seconds have passed since now; never for None."""
    end = math.inf if seconds is None else time.monotonic() + seconds
    return lambda: time.monotonic() >= end
