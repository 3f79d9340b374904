"""How the members of a team vote: every vote is a weighted mean of ballots, and a tally that makes it probabilities.

| vote | a member's ballot | tally |
|---|---|---|
| soft | its probabilities | the mean itself: the arithmetic mean of the members |
| logit | their logarithms | softmax: the normalised geometric mean, i.e. the softmax of the mean logits |
| plurality | 1 for its most probable class | the share of the weight that voted for the class |
| majority | both | the shares where one class has more than half of the weight, elsewhere the soft vote decides |
| borda | 0 points for its least probable class, C - 1 for the first; ties share | the share of the points |

Every vote takes the team's weights, so *weighted* is the soft vote by another name; a *rank* vote within a row is the
Borda count. Ties of the final arg max go to the lower class, as in NumPy; so does a member's own tie in `plurality`.

Averages and hard votes: Kuncheva, "Combining Pattern Classifiers" (2nd ed. 2014), ch. 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata

from lrensemble.errors import UserError, did_you_mean
from lrensemble.metrics import TINY

Array = NDArray[Any]
_MORE = 1e-9  # more than half by more than rounding


@dataclass(frozen=True)
class Vote:
    """One way to vote; calling it gives the probabilities (N, C) of a team from predictions (S, N, C) and weights (S,).

    Attributes
    ----------
    ballot : callable
        Probabilities (..., C) -> ballots (..., B). B is C, except for `majority`.
    tally : callable
        Weighted mean of ballots (..., B) -> probabilities (..., C).
    linear : bool
        The tally is a factor: the probability of the true class needs the true class's ballots only.
    ordered : bool
        The tally keeps the order of the classes: the arg max needs no tally.
    """

    ballot: Callable[[Array], Array]
    tally: Callable[[Array], Array]
    linear: bool = True
    ordered: bool = True

    def __call__(self, predictions: Array, weights: Array) -> Array:
        """Vote of members with these weights (normalised here to sum 1): (N, C), float64."""
        weights = np.asarray(weights, dtype=np.float64)
        total = sum(w * self.ballot(p).astype(np.float64) for w, p in zip(weights, predictions, strict=True) if w)
        return self.tally(np.asarray(total / weights.sum()))


def _same(x: Array) -> Array:
    return x


def _logarithm(p: Array) -> Array:
    clipped: Array = np.log(np.maximum(p, np.asarray(TINY, dtype=p.dtype)))
    return clipped


def _softmax(x: Array) -> Array:
    return np.asarray(softmax(x, axis=-1))


def _first_choice(p: Array) -> Array:
    ballots = np.zeros_like(p)
    np.put_along_axis(ballots, p.argmax(-1)[..., None], 1.0, axis=-1)
    return ballots


def _majority_ballot(p: Array) -> Array:
    return np.concatenate([_first_choice(p), p], axis=-1)


def _majority(x: Array) -> Array:
    shares, soft = np.split(x, 2, axis=-1)
    return np.asarray(np.where(shares.max(-1, keepdims=True) > 0.5 + _MORE, shares, soft))


def _points(p: Array) -> Array:
    # Whole and half points are exact in floating point: equal sums are equal numbers.
    return np.asarray(rankdata(p, axis=-1) - 1, dtype=p.dtype)


def _share_of_points(x: Array) -> Array:
    classes = x.shape[-1]
    return np.asarray(x / (classes * (classes - 1) / 2)) if classes > 1 else np.ones_like(x)


VOTES: dict[str, Vote] = {
    "soft": Vote(_same, _same),
    "logit": Vote(_logarithm, _softmax, linear=False),
    "plurality": Vote(_first_choice, _same),
    "majority": Vote(_majority_ballot, _majority, linear=False, ordered=False),
    "borda": Vote(_points, _share_of_points),
}
ALIASES = {"weighted": "soft", "average": "soft", "geometric": "logit", "rank": "borda"}


def canonical_vote(name: str) -> str:
    """The registered name of a vote or alias; `UserError` for an unknown one."""
    name = ALIASES.get(name, name)
    if name not in VOTES:
        raise UserError(f"unknown vote {name!r}: {did_you_mean(name, VOTES)}")
    return name


def scaled(probabilities: Array, temperature: float) -> Array:
    """Probabilities (..., C) at another temperature: p^(1/T), normalised. 1 leaves them as they are."""
    if temperature == 1:
        return probabilities
    logits = _logarithm(probabilities).astype(np.float64) / temperature
    return np.asarray(np.exp(log_softmax(logits, axis=-1)), dtype=probabilities.dtype)
