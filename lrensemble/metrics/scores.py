"""Scores of class probabilities against labels: one number a row, so that means, intervals and pairs come for free.

Throughout: `probabilities` is (..., N, C) with rows that sum to 1, `labels` is (N,) of integers in [0, C).
Ties of the arg max go to the lower class, as in NumPy.
"""

from __future__ import annotations

import numpy as np

from lrensemble.array import Array

# Probabilities below this count as this, as in scikit-learn's log_loss on float64.
TINY = float(np.finfo(np.float64).eps)
# Shares of a vote that are no further below the highest are tied with it: sums in float64 differ by less than this when
# they are equal on paper (a mean of 1,000 members by 1e-13).
TIE = 1e-12


def true_class(probabilities: Array, labels: Array) -> Array:
    """Probability given to the true class: (..., N)."""
    picked: Array = probabilities[..., np.arange(len(labels)), labels]
    return picked


def correct_rows(probabilities: Array, labels: Array) -> Array:
    """1.0 where the most probable class is the label, else 0.0: (..., N)."""
    right: Array = probabilities.argmax(-1) == labels
    return right.astype(np.float64)


def is_one_hot(probabilities: Array) -> bool:
    """Whether every row of (N, C) is 1 for one class and 0 for the others: labels, without a probability."""
    return np.count_nonzero(probabilities) == len(probabilities) and bool((probabilities.max(-1) == 1).all())


def winners(vote: Array) -> Array:
    """The class with the largest share of a vote (..., C), what is within `TIE` of it to the lower class: (...)."""
    return np.asarray((vote >= vote.max(-1, keepdims=True) - TIE).argmax(-1))


def settled(vote: Array) -> Array:
    """A vote (..., C) with what is within `TIE` of the largest share put on it, so that any arg max finds `winners`."""
    top = vote.max(-1, keepdims=True)
    return np.asarray(np.where(vote >= top - TIE, top, vote))


def top_k_rows(probabilities: Array, labels: Array, k: int) -> Array:
    """1.0 where the label is among the `k` most probable classes, else 0.0: (..., N). Ties go to the lower class."""
    true = true_class(probabilities, labels)[..., None]
    lower = np.arange(probabilities.shape[-1]) < np.asarray(labels)[:, None]
    above = (probabilities > true).sum(-1) + ((probabilities == true) & lower).sum(-1)
    return np.asarray(above < k, dtype=np.float64)


def nll_of(true_probability: Array) -> Array:
    """Negative log-likelihood in nats of the probability of the true class, element by element."""
    return -np.log(np.clip(np.asarray(true_probability, dtype=np.float64), TINY, 1.0))


def nll_rows(probabilities: Array, labels: Array) -> Array:
    """Negative log-likelihood in nats (cross entropy): (..., N)."""
    return nll_of(true_class(probabilities, labels))


def brier_rows(probabilities: Array, labels: Array) -> Array:
    """Brier score in its multi-class form, sum over classes of (p - one-hot)^2, in [0, 2]: (..., N)."""
    square = (np.asarray(probabilities, dtype=np.float64) ** 2).sum(-1)
    return np.asarray(square - 2 * np.asarray(true_class(probabilities, labels), dtype=np.float64) + 1)
