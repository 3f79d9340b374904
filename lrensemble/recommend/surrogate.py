"""What a policy that nobody has trained would predict, row by row, from the shape of its LR curve.

The log-odds that a member gives to the true class of row n are level_n + slope_n * quality + errors_n. Quality is one
number a member, errors are what makes it differ from others of its quality; each has a Gaussian process over LR curves.
So a curve near a good one is good, one far from all errs on rows of its own, and so does, less, a fresh seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import logit

from lrensemble.array import Array
from lrensemble.recommend.features import FINAL, FLOOR, MEAN, NAMES, PEAK, groups_of

CLIP = 1e-4  # probabilities of the true class outside [CLIP, 1 - CLIP] count as these
CEILING = 10.0  # an LR that trains nothing
# Prior medians: shares of the variance that another seed makes.
QUALITY_NOISE, ERROR_NOISE = 0.03, 0.5
OWN = 0.5  # share of a new member's errors that is on rows of its own; the rest is where members have differed before
# The length scales have a log-normal prior with this median, and so have the odds of the noise, with a median that is
# given; the spread is of the logarithm.
LENGTH = 1.0
SPREAD = 1.0


def log_odds(true: Array) -> Array:
    """Log-odds of probabilities of the true class, any shape."""
    return np.asarray(logit(np.clip(np.asarray(true, dtype=np.float64), CLIP, 1 - CLIP)))


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A fitted model: ``level`` and ``slope`` (N,), a process of one output and one of N."""

    level: Array
    slope: Array
    quality: Process
    errors: Process

    def draw(self, features: Array, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw what members with these features (Q, F) might give: log-odds (Q, n, N) in float32.

        The same n deviations serve all Q, so that their differences are not noise.
        """
        quality, doubt = self.quality.predict(features)
        size = np.sqrt((self.quality.deviations**2).mean())
        qualities = quality + np.sqrt(doubt)[:, None] * size * rng.standard_normal(n)  # (Q, n)
        errors, variance = self.errors.predict(features)
        deviations = self.errors.deviations
        members, rows = deviations.shape
        along = rng.standard_normal((n, members)) @ deviations / np.sqrt(members)
        own = rng.standard_normal((n, rows)) * np.sqrt((deviations**2).mean(0))
        noise = (np.sqrt(1 - OWN) * along + np.sqrt(OWN) * own).astype(np.float32)
        odds: NDArray[np.float32] = np.sqrt(variance).astype(np.float32)[:, None, None] * noise
        odds += (self.level + errors).astype(np.float32)[:, None]
        odds += qualities.astype(np.float32)[:, :, None] * self.slope.astype(np.float32)
        return odds

    def extended(self, features: Array, odds: Array) -> Surrogate:
        """The same model with one more member, (F,) and (N,): nothing is fitted anew."""
        quality = odds.mean()
        errors = odds - self.level - self.slope * quality
        return Surrogate(
            self.level,
            self.slope,
            self.quality.extended(features, np.array([quality])),
            self.errors.extended(features, errors),
        )


def fit_surrogate(features: Array, odds: Array, chance: float) -> Surrogate:
    """Fit to the features (M, F) and log-odds (M, N) of complete members, M >= 1.

    Two policies need no training: a constant LR of next to nothing and one of 10 have the quality of a uniform guess
    (`chance`: its probability of the true class). So the model knows before it has seen any that LRs can be too low
    and too high. Runs that failed are left out: the best LRs are often just below those at which runs diverge.
    """
    anchors = np.zeros((2, features.shape[1]))
    anchors[:, [MEAN, PEAK, FINAL]] = [[np.log10(FLOOR)], [np.log10(CEILING)]]
    anchors[:, len(NAMES) :] = features[:, len(NAMES) :].mean(0)
    guess = float(log_odds(np.array(chance)))
    quality = odds.mean(1)
    everything = np.r_[quality, np.full(len(anchors), guess)]
    # Per row a line through the members and the guess: what a model of that quality gives there.
    centred = everything - everything.mean()
    outputs = np.vstack([odds, np.full((len(anchors), odds.shape[1]), guess)])
    slope = centred @ outputs / max(float(centred @ centred), 1e-12)
    level = outputs.mean(0) - slope * everything.mean()
    errors = odds - level - quality[:, None] * slope
    return Surrogate(
        level,
        slope,
        fit_process(np.vstack([features, anchors]), everything[:, None], QUALITY_NOISE),
        fit_process(features, errors, ERROR_NOISE),
    )


# A Gaussian process over features of LR curves, with one output or with many that share its kernel.


def kernel(a: Array, b: Array, lengths: Array) -> Array:
    """Matern kernel (nu = 3/2) of features (Q, F) and (M, F), a length scale per group of columns: (Q, M)."""
    return _of_squares(_squares(a, b), lengths)


def _squares(a: Array, b: Array) -> Array:
    """Squared distances within every group of columns: (G, Q, M)."""
    groups = groups_of(a.shape[1])
    return np.stack([((a[:, None, group] - b[None, :, group]) ** 2).sum(-1) for group in groups])


def _of_squares(squares: Array, lengths: Array) -> Array:
    distance = np.sqrt(3 * np.tensordot(lengths**-2.0, squares, axes=1))
    return np.asarray((1 + distance) * np.exp(-distance))


@dataclass(frozen=True, eq=False)
class Process:
    """A fitted process, conditioned on M points.

    Attributes
    ----------
    features : (M, F)
    lengths : (G,) length scales of the groups of features
    noise : share of the variance that features do not explain
    mean : (N,) of every output far from all points (ordinary kriging)
    residuals : (M, N) outputs minus the mean
    factor : (M, M) lower Cholesky factor of the kernel matrix
    """

    features: Array
    lengths: Array
    noise: float
    mean: Array
    residuals: Array
    factor: Array

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Expected outputs (Q, N) of new points, and their variance (Q,) in units of `deviations`."""
        near = (1 - self.noise) * kernel(features, self.features, self.lengths)
        weights = cho_solve((self.factor, True), near.T).T
        ones = np.ones(len(self.features))
        doubt = (1 - weights @ ones) ** 2 / (ones @ cho_solve((self.factor, True), ones))  # of the estimated mean
        variance = 1 - (weights * near).sum(1) + doubt
        return self.mean + weights @ self.residuals, np.maximum(variance, 1e-9)

    @property
    def deviations(self) -> Array:
        """The residuals without what the kernel explains: (M, N), as many draws of unit variance (Q,) would be."""
        return np.asarray(solve_triangular(self.factor, self.residuals, lower=True))

    def extended(self, features: Array, outputs: Array) -> Process:
        """Conditioned on one more point, (F,) and (N,), with the same hyperparameters."""
        everything = np.vstack([self.residuals + self.mean, outputs])
        return _conditioned(np.vstack([self.features, features]), everything, self.lengths, self.noise)


def fit_process(features: Array, outputs: Array, noise: float) -> Process:
    """Fit to M points: features (M, F) and outputs (M, N), M >= 1; `noise` is the prior median of its share.

    Length scales and noise maximise the marginal likelihood of a matrix normal (outputs that share the kernel over
    points: Bonilla et al. 2008, section 2.2) times the priors. Outputs need not be independent: they count as many as
    the eigenvalues of the points' scatter say (their participation ratio).
    """
    centred = outputs - outputs.mean(0)
    scatter = centred @ centred.T / outputs.shape[1]
    scatter /= max(float(np.trace(scatter)) / len(features), 1e-12)
    eigenvalues = np.linalg.eigvalsh(scatter)
    effective = float(eigenvalues.sum() ** 2 / max(float((eigenvalues**2).sum()), 1e-12))
    count, groups = len(features), len(groups_of(features.shape[1]))

    squares = _squares(features, features)

    def loss(parameters: Array) -> float:
        matrix = _matrix(squares, *_unpacked(parameters, noise))
        size = float(np.trace(np.linalg.solve(matrix, scatter))) / count
        volume = float(np.linalg.slogdet(matrix)[1])
        return 0.5 * effective * (count * float(np.log(max(size, 1e-12))) + volume) + 0.5 * float(
            parameters @ parameters
        )

    start, bounds = np.zeros(groups + 1), [(-3.0, 3.0)] * (groups + 1)
    found = minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-4, "maxiter": 30})
    return _conditioned(features, outputs, *_unpacked(found.x, noise))


def _unpacked(parameters: Array, noise: float) -> tuple[Array, float]:
    """Length scales and the share of noise from numbers with a standard normal prior."""
    odds = noise / (1 - noise) * np.exp(SPREAD * parameters[-1])
    return LENGTH * np.exp(SPREAD * parameters[:-1]), float(odds / (1 + odds))


def _matrix(squares: Array, lengths: Array, noise: float) -> Array:
    matrix = (1 - noise) * _of_squares(squares, lengths)
    matrix.flat[:: len(matrix) + 1] += noise
    return matrix


def _conditioned(features: Array, outputs: Array, lengths: Array, noise: float) -> Process:
    factor = np.asarray(cholesky(_matrix(_squares(features, features), lengths, noise), lower=True))
    weights = cho_solve((factor, True), np.ones(len(features)))
    mean = weights @ outputs / weights.sum()  # generalised least squares: a crowd of equal curves counts little
    return Process(features, lengths, noise, mean, outputs - mean, factor)
