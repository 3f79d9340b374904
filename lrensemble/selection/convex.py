"""The weights with the lowest NLL: a convex problem on the simplex, solved exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls
from scipy.special import logsumexp

from lrensemble.array import Array
from lrensemble.metrics import TINY, true_class
from lrensemble.selection.ballots import Ballots
from lrensemble.selection.base import Incompatible, Selector, Step

_GAP = 1e-10  # nats
_DROP = 1e-6  # smaller weights are rounding of 0
_ROUNDING = 1e-14
_COLUMNS = 8192


@dataclass(eq=False, repr=False)
class Convex(Selector):
    """Any weights on the simplex, those with the lowest NLL (stacking with one weight a member; Breiman 1996).

    The NLL is convex in the weights for the linear votes (a mixture's likelihood) and for the logit vote. Newton steps,
    each a quadratic problem with w >= 0 and sum 1 solved by non-negative least squares, with a line search, as in Kim
    et al. 2020 ("A fast algorithm for maximum likelihood estimation of mixture proportions using sequential quadratic
    programming"), end when the optimum is proved to 1e-10 nats. Weights below 1e-6 are set to 0.

    Parameters
    ----------
    vote : {"soft", "logit", "plurality", "borda"}
    steps : int
        Newton steps at most; 10 are usual.

    Attributes
    ----------
    gap_ : float
        Nats that the NLL is above its minimum at most: w . g - min g for the gradient g (Frank-Wolfe duality gap).
    """

    vote: str = "soft"
    temperature: bool = False
    steps: int = 100
    time_limit: float | None = None

    def _choose(self, ballots: Ballots) -> tuple[Array, int]:
        if not ballots.vote.ordered:
            raise Incompatible(f"the NLL of the {self.vote} vote is not convex: use soft, logit, plurality or borda")
        problem: _Mixture | _Geometric = _Mixture(ballots) if ballots.vote.linear else _Geometric(ballots)
        weights, tried = np.full(ballots.total, 1 / ballots.total), 1
        for step in range(self.steps + 1):
            now = problem.expand(weights)
            self.trajectory_.append(Step(weights, -now.value))
            self.gap_ = float(weights @ now.gradient - now.gradient.min())
            if self.gap_ <= _GAP or step == self.steps:
                break
            if self._over(f"{step} Newton steps, the NLL is at most {self.gap_:.2g} above its minimum"):
                break
            direction = _newton(now.gradient, now.hessian, weights) - weights
            slope, length = float(now.gradient @ direction), 1.0
            while (
                problem.value(weights + length * direction) > now.value + 1e-4 * length * slope + _ROUNDING
                and length > 1e-8
            ):
                length /= 2
                tried += 1
            weights = weights + length * direction
            tried += 1
        weights = np.where(weights < _DROP, 0, weights)
        weights /= weights.sum()
        gradient = problem.expand(weights).gradient
        self.gap_ = float(weights @ gradient - gradient.min())
        return weights, tried


class _Expansion(NamedTuple):
    value: float
    gradient: Array
    hessian: Array


def _newton(gradient: Array, hessian: Array, weights: Array) -> Array:
    """The x on the simplex with the least gradient . (x - w) + (x - w) hessian (x - w) / 2."""
    total = len(weights)
    ridge = (1e-10 * np.trace(hessian) / total + 1e-300) * np.eye(total)
    root = cholesky(hessian + ridge, lower=True)
    target = root.T @ weights - solve_triangular(root, gradient, lower=True)
    # One heavy row keeps the sum at 1.
    heavy = 1e4 * max(1.0, float(np.sqrt(np.trace(hessian))))
    x, _ = nnls(np.vstack([root.T, np.full(total, heavy)]), np.append(target, heavy), maxiter=30 * total)
    return np.asarray(x / x.sum())


class _Mixture:
    """Minus the mean log of sum_m w_m p_m, for the members' probabilities p of the true class."""

    def __init__(self, ballots: Ballots) -> None:
        self.true = ballots.true()

    def value(self, weights: Array) -> float:
        return float(-np.log(self._vote(weights)).mean())

    def _vote(self, weights: Array) -> Array:
        return np.asarray(weights @ self.true + TINY)  # finite where all members are certain and wrong

    def expand(self, weights: Array) -> _Expansion:
        n = self.true.shape[1]
        gradient, hessian = np.zeros(len(weights)), np.zeros((len(weights),) * 2)
        vote = self._vote(weights)
        for start in range(0, n, _COLUMNS):
            part = slice(start, start + _COLUMNS)
            ratio = self.true[:, part] / vote[part]
            gradient -= ratio.sum(1) / n
            hessian += ratio @ ratio.T / n
        return _Expansion(float(-np.log(vote).mean()), gradient, hessian)


class _Geometric:
    """The mean of logsumexp_k z_k - z_y for the weighted mean z of the logarithms."""

    def __init__(self, ballots: Ballots) -> None:
        self.ballots = ballots

    def value(self, weights: Array) -> float:
        total: float = 0.0
        for rows, block in self.ballots.blocks(share=8):
            z = np.tensordot(weights, block, axes=1)
            total += float((logsumexp(z, axis=-1) - true_class(z, self.ballots.labels[rows])).sum())
        return float(total / self.ballots.rows)

    def expand(self, weights: Array) -> _Expansion:
        members, n = self.ballots.total, self.ballots.rows
        value, gradient, hessian = 0.0, np.zeros(members), np.zeros((members, members))
        for rows, ballots in self.ballots.blocks(share=16):
            labels = self.ballots.labels[rows]
            block = ballots.astype(np.float64, copy=False)
            z = np.tensordot(weights, block, axes=1)
            norm = logsumexp(z, axis=-1)
            q = np.exp(z - norm[:, None])
            expected = np.einsum("mik,ik->mi", block, q)
            value += float((norm - true_class(z, labels)).sum()) / n
            gradient += (expected - true_class(block, labels)).sum(1) / n
            scaled = (block * np.sqrt(q)).reshape(members, -1)
            hessian += (scaled @ scaled.T - expected @ expected.T) / n
        return _Expansion(value, gradient, hessian)
