"""How well a score tells two kinds of rows apart: area under the ROC curve with an interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lrensemble.array import Array


class Auroc(NamedTuple):
    """Probability that a positive row has the higher score, ties half; with its interval."""

    value: float
    low: float
    high: float


def auroc(negative: Array, positive: Array, level: float = 0.95) -> Auroc:
    """AUROC of scores of the two kinds of rows, (N,) and (P,), by scikit-learn; interval of DeLong et al. 1988.

    The interval is a normal one, cut to [0, 1]: too narrow for an AUROC very near 1 or for few rows.
    """
    from scipy.stats import norm
    from sklearn.metrics import roc_auc_score

    scores = np.concatenate([negative, positive])
    kinds = np.repeat([0, 1], [len(negative), len(positive)])
    value = float(roc_auc_score(kinds, scores))
    # Structural components: for every row the share of the other kind that it is on the right side of.
    parts = (share_below(positive, negative), 1 - share_below(negative, positive))
    variance = sum(float(part.var(ddof=1)) / len(part) for part in parts if len(part) > 1)
    margin = float(norm.ppf((1 + level) / 2)) * variance**0.5
    return Auroc(value, max(0.0, value - margin), min(1.0, value + margin))


def share_below(scores: Array, others: Array) -> Array:
    """For each of `scores` the share of `others` below it, ties half."""
    ordered = np.sort(others)
    both = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    return np.asarray(both / (2 * len(others)))


def uncertainty(probabilities: Array) -> dict[str, Array]:
    """Scores that are higher for rows that a classifier knows less: (N,) each, from (N, C).

    ``max_probability``: minus the highest probability (Hendrycks & Gimpel 2017). ``entropy``: of the prediction, in
    nats (Lakshminarayanan et al. 2017).
    """
    from scipy.special import entr

    p = np.asarray(probabilities, dtype=np.float64)
    return {"max_probability": -p.max(-1), "entropy": np.asarray(entr(p).sum(-1))}
