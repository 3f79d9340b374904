"""How the members of a team vote: every vote is a weighted mean of ballots, and a tally that makes it probabilities.

| vote | a member's ballot | tally |
|---|---|---|
| soft | its probabilities | the mean itself: the arithmetic mean of the members |
| logit | their logarithms | softmax: the normalised geometric mean, i.e. the softmax of the mean logits |
| plurality | 1 for its most probable class | the share of the weight that voted for the class |
| majority | both | the shares where one class has more than half of the weight, elsewhere the soft vote decides |
| borda | 0 points for its least probable class, C - 1 for the first; ties share | the share of the points |

Every vote takes the team's weights, so *weighted* is the soft vote by another name; a *rank* vote within a row is the
Borda count. Ties of the final arg max go to the lower class, and so does a member's own tie in `plurality`: rounding
decides none of them. Weights that are shares of whole numbers (greedy's counts, equal weights) vote as these numbers,
so that plurality and Borda are exact; shares within `TIE` (1e-12) of the largest are tied with it, for every vote.

Rows may have choices of their own, fewer than C: -0.0 marks a choice that does not exist (`Pool.predictions` sets it).
It is a zero in every sum, survives cutting and stacking, and gets exactly 0 from every vote at every temperature.

Averages and hard votes: Kuncheva, "Combining Pattern Classifiers" (2nd ed. 2014), ch. 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata

from lrensemble.array import Array
from lrensemble.metrics import TINY, settled

_MORE = 1e-9  # more than half by more than rounding
NEVER = -1e6  # logarithm of what does not exist: 0 by exp, also divided by the highest temperature. Or a logit below it
_MOST, _NEAR = 1000, 1e-9  # the largest sum of whole numbers that weights are compared with, and how near they are


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
        counts = counts_of(weights)
        total = sum(w * self.ballot(p).astype(np.float64) for w, p in zip(counts, predictions, strict=True) if w)
        return self.outcome(np.asarray(total / counts.sum()))

    def outcome(self, mean: Array) -> Array:
        """Probabilities (..., C) from the mean ballots (..., B), ties `settled`."""
        return settled(self.tally(mean))


def counts_of(weights: ArrayLike) -> Array:
    """The smallest whole numbers that the weights (M,) are shares of; the weights themselves where there are none.

    Equal weights are ones, whatever their number; others are looked for up to a sum of 1,000.

    >>> counts_of([0.075, 0.025, 0.9])
    array([ 3.,  1., 36.])
    """
    weights = np.asarray(weights, dtype=np.float64)
    shares = weights / weights.sum()
    kinds, first, times = np.unique(shares[shares > 0], return_inverse=True, return_counts=True)
    if len(kinds) and kinds[-1] - kinds[0] <= _NEAR * kinds[0]:
        return np.asarray(shares > 0, dtype=np.float64)
    sums = np.arange(1.0, _MOST + 1)[:, None]
    counts = np.rint(sums * kinds)
    fits = (np.abs(counts / sums - kinds) <= _NEAR).all(1) & (counts.min(1, initial=1) >= 1)
    fits &= counts @ times == sums[:, 0]
    if not fits.any():
        return weights
    whole = np.zeros(len(weights))
    whole[shares > 0] = counts[int(fits.argmax())][first]
    return whole


def _same(x: Array) -> Array:
    return x


def logarithm(p: Array) -> Array:
    """log p with a floor under zeros; of choices that do not exist so low that it stays 0 at any temperature."""
    clipped: Array = np.log(np.maximum(p, np.asarray(TINY, dtype=p.dtype)))
    return np.asarray(np.where(np.signbit(p), NEVER, clipped)) if np.signbit(p).any() else clipped


def _softmax(x: Array) -> Array:
    return np.asarray(softmax(x, axis=-1))


def _first_choice(p: Array) -> Array:
    ballots = np.zeros_like(p)
    np.put_along_axis(ballots, p.argmax(-1)[..., None], 1.0, axis=-1)
    return ballots


def _majority(x: Array) -> Array:
    shares, soft = np.split(x, 2, axis=-1)
    return np.asarray(np.where(shares.max(-1, keepdims=True) > 0.5 + _MORE, shares, soft))


def _points(p: Array) -> Array:
    # Whole and half points are exact in floating point: equal sums are equal numbers.
    missing = np.signbit(p)
    points = rankdata(np.where(missing, -1, p), axis=-1) - 1 - missing.sum(-1, keepdims=True)
    return np.asarray(np.where(missing, 0, points), dtype=p.dtype)


def _share_of_points(x: Array) -> Array:
    classes = x.shape[-1]
    if classes == 1:
        return np.ones_like(x)
    given, most = x.sum(-1, keepdims=True), classes * (classes - 1) / 2
    return np.asarray(x / np.where(given < most - 0.5, given, most))  # less of rows with fewer choices


VOTES: dict[str, Vote] = {
    "soft": Vote(_same, _same),
    "logit": Vote(logarithm, _softmax, linear=False),
    "plurality": Vote(_first_choice, _same),
    "majority": Vote(lambda p: np.concatenate([_first_choice(p), p], axis=-1), _majority, linear=False, ordered=False),
    "borda": Vote(_points, _share_of_points),
}


def scaled(probabilities: Array, temperature: float) -> Array:
    """Probabilities (..., C) at another temperature: p^(1/T), normalised. 1 leaves them as they are."""
    if temperature == 1:
        return probabilities
    logits = logarithm(probabilities).astype(np.float64) / temperature
    flat = np.asarray(np.exp(log_softmax(logits, axis=-1)), dtype=probabilities.dtype)
    return np.asarray(np.copysign(flat, probabilities))  # what does not exist stays marked


# A member that is right on every row would be made certain (T -> 0), one worse than chance uniform (T -> infinity).
LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(probabilities: Array, labels: Array) -> float:
    """The T in [0.05, 20] for which the NLL of p^(1/T) (N, C), normalised, is smallest (Guo et al. 2017, section 4.2).

    In b = 1/T the mean NLL is convex, so its slope rises and has one root: mean over rows of
    sum_k q_k z_k - z_y with z = log p and q = softmax(b z).
    """
    z = logarithm(np.asarray(probabilities, dtype=np.float64))
    true = z[np.arange(len(labels)), labels].mean()

    def slope(b: float) -> float:
        return float((softmax(b * z, axis=1) * z).sum(1).mean() - true)

    low, high = 1 / HIGHEST, 1 / LOWEST
    if slope(low) >= 0:
        return HIGHEST
    if slope(high) <= 0:
        return LOWEST
    return float(1 / brentq(slope, low, high, xtol=1e-10, rtol=1e-10))
