"""The binary clustering of focal diversity: which teams are accurate and diverse."""

from __future__ import annotations

import numpy as np

from lrensemble.array import Array

_STEPS = 100


def diverse_and_accurate(accuracy: Array, score: Array) -> Array:
    """Say which of T teams are on the accurate and diverse side of two clusters: (T,) bool.

    K-means with k = 2 on (accuracy, score), lower score = more diverse, started from the corners (highest accuracy,
    lowest score) and (lowest accuracy, highest score) (Wu et al. 2021, CVPR, on FQ metrics). Both axes are scaled to
    [0, 1] first: the papers' code has accuracy in percent, which drowns the score. Points as near to both centres are
    on the good side. A NaN score is on neither side. Where all points coincide, all are on the good side.

    Fixed starts make it deterministic, and it is a dozen lines. scikit-learn's KMeans with algorithm="elkan" and tol=0
    gives the same (a test); its default "lloyd" ended elsewhere in 7 of 300 small random sets, we do not know why.
    """
    good = ~np.isnan(score)
    if not good.any():
        return good
    points = np.stack([_scaled(accuracy[good]), _scaled(score[good])], axis=1)
    centres = np.array([[1.0, 0.0], [0.0, 1.0]])
    near = np.zeros(len(points), dtype=bool)
    for _ in range(_STEPS):
        distance = ((points[:, None] - centres) ** 2).sum(-1)
        before, near = near, distance[:, 0] <= distance[:, 1]
        if (near == before).all():
            break
        for k, members in enumerate((near, ~near)):
            if members.any():
                centres[k] = points[members].mean(0)
    good[good] = near
    return good


def _scaled(values: Array) -> Array:
    """Min-max to [0, 1]; equal values to the middle."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
