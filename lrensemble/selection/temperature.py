"""Temperature scaling of single members, fitted on validation (Guo et al. 2017, "On Calibration ...", section 4.2)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from lrensemble.array import Array
from lrensemble.selection.votes import logarithm

# A member that is right on every row would be made certain (T -> 0), one worse than chance uniform (T -> infinity).
LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(probabilities: Array, labels: Array) -> float:
    """The T in [0.05, 20] for which the NLL of p^(1/T), normalised, is smallest.

    In b = 1/T the mean NLL is convex, so its slope rises and has one root: mean over rows of
    sum_k q_k z_k - z_y with z = log p and q = softmax(b z).

    Parameters
    ----------
    probabilities : (N, C) array
    labels : (N,) array of int
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
