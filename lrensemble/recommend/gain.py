"""What training a candidate would be worth to the team, and which candidates to train next. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lrensemble.array import Array
from lrensemble.metrics import TINY
from lrensemble.pool.record import Strict
from lrensemble.recommend.features import MEAN, PEAK
from lrensemble.recommend.surrogate import fit_surrogate, log_odds
from lrensemble.selection import Greedy

FEWEST = 3  # finished runs, one of them complete, that a surrogate can learn from; else candidates are spread out
DRAWS = 16  # of every candidate's predictions
ROWS = 1000  # of validation at most, evenly spaced
POINTS = 400  # members at most that a surrogate is fitted to: it takes the third power of their number
SHORTLIST = 40  # candidates that stay when the first of several has been chosen
WEIGHTS = (0.05, 0.1, 0.2, 0.35, 0.6, 1.0)  # that a new member may get in the team
BINS = 20  # of the probability of the true class, for the accuracy

By = Literal["gain", "nll", "mixed"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known when the next member is chosen: validation results of trained members, and nothing else.

    Attributes
    ----------
    features : (M, F) of the complete members
    true : (M, N) probability of the true class
    right : (M, N) whether the most probable class is the true one
    failed : (D, F) features of the runs that diverged or were stopped
    others : (K, N) probability of the true class by members whose policy is not known: they are in the team, too
    chance : probability of the true class in a uniform guess
    """

    features: Array
    true: Array
    right: Array
    failed: Array
    others: Array
    chance: float

    def thinned(self, rows: int = ROWS) -> Evidence:
        """The same on `rows` rows at most."""
        total = self.true.shape[1]
        if total <= rows:
            return self
        kept = np.linspace(0, total - 1, rows).round().astype(int)
        return replace(self, true=self.true[:, kept], right=self.right[:, kept], others=self.others[:, kept])


class Forecast(Strict):
    """What is expected of one candidate, on validation.

    Attributes
    ----------
    gain : nats that the team's NLL falls by, on average over draws, divergence included; None without a surrogate
    accuracy, accuracy_sd, nll : of the candidate itself if it does not diverge
    disagreement : share of rows on which just one of it and a member of the team is right (weighted by the team)
    diverges : probability; None where nothing is forecast
    """

    gain: float | None = None
    accuracy: float | None = None
    accuracy_sd: float | None = None
    nll: float | None = None
    disagreement: float | None = None
    diverges: float | None = Field(default=None, ge=0, le=1)


def greedy_weights(true: Array) -> Array:
    """Weights (M,) of the greedy team (NLL) from the probabilities of the true class (M, N): they are all it reads."""
    both = np.stack([true, 1 - true], axis=-1)
    return np.asarray(Greedy().fit(both, np.zeros(true.shape[1], dtype=int)).weights_)


def divergence(finished: Array, failed: Array, candidates: Array) -> Array:
    """Probability that candidates (Q, F) diverge, from the runs that were finished (M, F) and that failed (D, F).

    Logistic regression on the mean and the peak of the LR; Laplace's rule of succession while all runs ended alike.
    """
    n, d = len(finished), len(failed)
    if not n or not d:
        return np.full(len(candidates), d / (n + d + 1))
    columns = [MEAN, PEAK]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(np.vstack([finished, failed])[:, columns], np.r_[np.zeros(n), np.ones(d)])
    return np.asarray(model.predict_proba(candidates[:, columns])[:, 1])


def choose(
    evidence: Evidence, candidates: Array, seconds: Array, n: int, seed: int, *, by: By = "gain", first: int = 0
) -> list[tuple[int, Forecast]]:
    """The `n` candidates to train next, best first, each given that the ones before it are trained.

    Parameters
    ----------
    candidates : (Q, F) features
    seconds : (Q,) that training each takes
    by : {"gain", "nll", "mixed"}
        Expected gain of the team per second, or the candidate's own expected NLL; mixed: where the runs before it are
        even in number, a candidate is random, less likely where it would diverge, the others have the largest gain.
    first : int
        So many of the candidates come first, in their order, whatever is expected of them.
    """
    diverges = divergence(evidence.features, evidence.failed, candidates)
    if not len(evidence.features) or len(evidence.features) + len(evidence.failed) < FEWEST:
        known = np.vstack([evidence.features, evidence.failed]) if len(evidence.failed) else evidence.features
        known = np.vstack([known, candidates[:first]])
        spread = [
            *range(first),
            *(first + i for i in spread_out(known, candidates[first:], n - first, 1 - diverges[first:])),
        ]
        return [(i, Forecast(diverges=float(diverges[i]))) for i in spread]
    evidence = evidence.thinned()
    rng = np.random.default_rng(seed)
    odds = log_odds(evidence.true)
    points = _representative(odds.mean(1), POINTS)
    model = fit_surrogate(evidence.features[points], odds[points], evidence.chance)
    to_right = _accuracy_of(evidence)
    known = np.vstack([evidence.true, evidence.others])
    weights = greedy_weights(known)
    team, right = weights @ known, evidence.right.astype(np.float64)
    in_team = weights[: len(right)]
    chosen: list[tuple[int, Forecast]] = []
    left = np.arange(len(candidates))
    while len(left) and len(chosen) < n:
        true = expit(np.clip(model.draw(candidates[left], DRAWS, rng), -30, 30))  # (Q, draws, N), never 0
        gains, shares = _gains(team, true)
        nll = -np.log(true).mean((1, 2))
        expected = (1 - diverges[left]) * gains.mean(1)
        score = -nll if by == "nll" else expected / seconds[left]
        if by == "mixed" and (len(evidence.features) + len(evidence.failed) + len(chosen)) % 2 == 0:
            score = -rng.exponential(size=len(left)) / np.maximum(1 - diverges[left], TINY)
        order = np.lexsort((nll, -score))  # of equal ones, the better model
        best = 0 if len(chosen) < first else int(order[0])
        i = int(left[best])
        chances = to_right(true[best])  # (draws, N)
        agree = (right @ chances.mean(0) + (1 - right) @ (1 - chances.mean(0))) / right.shape[1]
        total = in_team.sum()
        forecast = Forecast(
            gain=float(expected[best]),
            accuracy=float(chances.mean()),
            accuracy_sd=float(chances.mean(1).std(ddof=1)),
            nll=float(nll[best]),
            disagreement=float(1 - in_team @ agree / total) if total else float(1 - agree.mean()),
            diverges=float(diverges[i]),
        )
        chosen.append((i, forecast))
        # The next one is chosen as if this one had been trained, with one draw as its result.
        k = int(rng.integers(DRAWS))
        draw = true[best, k].astype(np.float64)
        model = model.extended(candidates[i], log_odds(draw))
        team = team + shares[best, k] * (draw - team)
        left = np.delete(left, best) if len(chosen) <= first or by == "mixed" else left[order[1 : 1 + SHORTLIST]]
    return chosen


def _representative(quality: Array, most: int) -> Array:
    """Numbers of `most` members at most, the best and the worst among them and the others evenly by their rank."""
    if len(quality) <= most:
        return np.arange(len(quality))
    ranks = np.linspace(0, len(quality) - 1, most).round().astype(int)
    return np.sort(np.argsort(quality, kind="stable")[ranks])


def _gains(team: Array, true: Array) -> tuple[Array, Array]:
    """By how much a member with these probabilities of the true class (Q, draws, N) lowers the team's NLL: (Q, draws).

    And the weights at which it does (Q, draws). The team is its probability of the true class (N,); the member gets the
    best of `WEIGHTS`, or 0.
    """
    q = np.maximum(team, TINY).astype(np.float32)
    change, buffer = true - q, np.empty_like(true)
    best = np.zeros(true.shape[:2], dtype=np.float32)
    shares = np.zeros_like(best)
    before = np.log(q).mean()
    for weight in WEIGHTS:
        np.multiply(change, np.float32(weight), out=buffer)
        buffer += q
        gain = np.log(np.maximum(buffer, np.float32(TINY), out=buffer), out=buffer).mean(-1) - before
        shares[gain > best] = weight
        np.maximum(best, gain, out=best)
    return best, shares


def _accuracy_of(evidence: Evidence) -> Any:
    """A function from the probability of the true class to the chance that it is the most probable one, by members."""
    edges = np.linspace(0, 1, BINS + 1)
    where = np.clip(np.digitize(evidence.true, edges) - 1, 0, BINS - 1)
    count = np.bincount(where.ravel(), minlength=BINS)
    share = np.bincount(where.ravel(), weights=evidence.right.ravel(), minlength=BINS)
    middle = (edges[1:] + edges[:-1]) / 2
    seen = count > 0
    rates = np.maximum.accumulate(share[seen] / count[seen])
    return lambda true: np.interp(true, middle[seen], rates)


def spread_out(known: Array, candidates: Array, n: int, weights: Array) -> list[int]:
    """`n` candidates that represent them all, beside the known ones: each lowers the distances to the nearest most.

    The greedy solution of the facility-location problem (Cornuejols et al. 1977); `weights` (Q,) favour candidates.
    """
    distances = np.linalg.norm(candidates[:, None] - candidates[None], axis=-1)
    nearest = np.full(len(candidates), 1.5 * distances.max() + 1)
    if len(known):
        nearest = np.linalg.norm(candidates[:, None] - known[None], axis=-1).min(1)
    chosen: list[int] = []
    for _ in range(min(n, len(candidates))):
        worth = weights * np.maximum(nearest[None] - distances, 0).sum(1)
        worth[chosen] = -1
        chosen.append(int(worth.argmax()))
        nearest = np.minimum(nearest, distances[chosen[-1]])
    return chosen
