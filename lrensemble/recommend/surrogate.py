"""What a policy that nobody has trained would predict, row by row, from the shape of its LR curve.

The log-odds that a member gives to the true class of row n are level_n + slope_n * quality + errors_n. Quality is one
number a member, errors are what makes it differ from others of its quality; each has a Gaussian process over LR curves.
So a curve near a good one is good, one far from all errs on rows of its own, and so does, less, a fresh seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.recommend.features import FINAL, FLOOR, MEAN, NAMES, PEAK
from lrensemble.recommend.process import Process, fit_process

Array = NDArray[Any]
CLIP = 1e-4  # probabilities of the true class outside [CLIP, 1 - CLIP] count as these
CEILING = 10.0  # an LR that trains nothing
# Prior medians: shares of the variance that another seed makes.
QUALITY_NOISE, ERROR_NOISE = 0.03, 0.5
OWN = 0.5  # share of a new member's errors that is on rows of its own; the rest is where members have differed before


def log_odds(true: Array) -> Array:
    """Log-odds of probabilities of the true class, any shape."""
    p = np.clip(np.asarray(true, dtype=np.float64), CLIP, 1 - CLIP)
    return np.asarray(np.log(p) - np.log1p(-p))


def probability(odds: Array) -> Array:
    """Inverse of `log_odds`."""
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))))


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
