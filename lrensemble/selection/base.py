"""What all selectors share: the interface, the objectives, and the score of many teams at once."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from lrensemble.errors import UserError, did_you_mean
from lrensemble.metrics import nll_of, true_class

Array = NDArray[Any]
OBJECTIVES = ("nll", "accuracy")
_CHUNK = 4_000_000  # numbers in one intermediate array: 32 MB


def score_teams(weights: Array, predictions: Array, labels: Array, objective: str) -> Array:
    """Score the soft votes of many teams, higher is better: (T,) from weights (T, M) and predictions (M, N, C).

    ``accuracy`` is the share of rows right, ``nll`` minus the mean negative log-likelihood in nats. Every row of
    `weights` sums to 1. Memory stays bounded for any number of teams.
    """
    members, n, classes = predictions.shape
    if objective == "nll":  # needs the column of the true class only
        flat = true_class(predictions, labels).astype(np.float64)
    else:
        flat = np.asarray(predictions, dtype=np.float64).reshape(members, n * classes)
    scores = np.empty(len(weights))
    chunk = max(1, _CHUNK // flat.shape[1])
    for start in range(0, len(weights), chunk):
        vote = weights[start : start + chunk] @ flat
        if objective == "nll":
            scores[start : start + chunk] = -nll_of(vote).mean(-1)
        else:
            right = vote.reshape(-1, n, classes).argmax(-1) == labels
            scores[start : start + chunk] = right.mean(-1)
    return scores


class Selector(BaseEstimator):  # type: ignore[misc]
    """Choose a team, i.e. a weight for every member, from predictions on validation data.

    Attributes
    ----------
    weights_ : (M,) array
        Non-negative, sums to 1; 0 for members that are not in the team.
    members_ : (S,) array of int
        Indices of the team's members.
    teams_tried_ : int
        How many teams were scored to find this one: the more, the more its validation score promises too much.
    """

    objective = "nll"
    size: int | None = None

    weights_: Array
    members_: Array
    teams_tried_: int

    def fit(self, predictions: ArrayLike, labels: ArrayLike) -> Self:
        """Select from probabilities (M, N, C) and labels (N,); raise `UserError` when that is impossible."""
        P, y = np.asarray(predictions), np.asarray(labels)
        if P.ndim != 3 or P.shape[1] != len(y):
            raise ValueError(f"predictions must be (members, rows, classes) with {len(y)} rows, not {P.shape}")
        if len(P) == 0:
            raise UserError("there are no members to select from")
        if self.objective not in OBJECTIVES:
            raise UserError(f"unknown objective {self.objective!r}: {did_you_mean(self.objective, OBJECTIVES)}")
        if self.size is not None and not 1 <= self.size <= len(P):
            raise UserError(f"size {self.size} is not possible: the pool has {len(P)} members to choose from")
        weights, self.teams_tried_ = self._select(P, y)
        self.weights_ = weights / weights.sum()
        self.members_ = np.flatnonzero(weights)
        return self

    def _select(self, P: Array, y: Array) -> tuple[Array, int]:
        """Return (weights up to a factor, number of teams scored)."""
        raise NotImplementedError

    def predict_proba(self, predictions: ArrayLike) -> Array:
        """Soft vote of the team: (N, C) from the predictions (M, N, C) of all members, in the order of `fit`."""
        return soft_vote(self.weights_, np.asarray(predictions))


def soft_vote(weights: Array, predictions: Array) -> Array:
    """Weighted mean of the probabilities (S, N, C) -> (N, C), in float64."""
    vote: Array = np.tensordot(np.asarray(weights, dtype=np.float64), predictions.astype(np.float64), axes=1)
    return vote


def team_of(members: ArrayLike, total: int) -> Array:
    """Equal weights for these member indices, 0 for the rest."""
    weights = np.zeros(total)
    weights[np.asarray(members)] = 1.0
    return weights
