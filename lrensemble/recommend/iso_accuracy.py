"""When is a policy as accurate as a baseline, and which one gets there first? Pure: arrays in, a decision out.

A candidate is iso-accurate after epoch e when, of every seed, each of the last `WINDOW` evaluations up to e is at most
`MARGIN` below the target, and the one-sided 95 % lower bound of its mean difference from the baseline is above
-`MARGIN`. (To wait for a quiet window instead fails curves that still rise, and cyclic ones.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from lrensemble.array import Array

WINDOW = 5  # evaluations
MARGIN = 0.005  # of accuracy
LEVEL = 0.05


@dataclass(frozen=True)
class Curves:
    """Runs of one policy with several seeds, evaluated after every epoch.

    Attributes
    ----------
    accuracy : (S, E), validation; NaN from where a run ended early
    seconds : (S, E), of training up to there
    """

    accuracy: Array
    seconds: Array

    @property
    def epochs(self) -> int:
        return int(self.accuracy.shape[1])

    def mean_before(self, epoch: int) -> Array:
        """(S,) means of the last `WINDOW` evaluations up to an epoch (1 is the first)."""
        return np.asarray(self.accuracy[:, max(0, epoch - WINDOW) : epoch].mean(1))

    def time_of(self, epoch: int) -> float:
        """Median over the seeds of the seconds to the end of an epoch."""
        return float(np.median(self.seconds[:, epoch - 1]))

    def time_to(self, target: float) -> float:
        """Of the first epoch whose mean over seeds and window is at most `MARGIN` below a target; infinite: none."""
        looks = range(min(WINDOW, self.epochs), self.epochs + 1)
        first = next((e for e in looks if self.mean_before(e).mean() >= target - MARGIN), None)
        return math.inf if first is None else self.time_of(first)


@dataclass(frozen=True)
class Verdict:
    """What the rule says of one policy after one epoch.

    Attributes
    ----------
    epoch : the first that is iso-accurate, or the one that was asked for; None: there is none
    seconds : median over the seeds to there
    difference, bound : mean accuracy less the baseline's, over the window, and its one-sided 95 % lower bound
    p : one-sided, that it is more than `MARGIN` worse
    holds : whether it is iso-accurate; of several candidates: at Holm's level
    """

    epoch: int | None
    seconds: float
    difference: float
    bound: float
    p: float
    holds: bool


@dataclass(frozen=True)
class Decision:
    """`fastest` is the number of the candidate that wins; None: none is iso-accurate and faster than the baseline."""

    target: float
    verdicts: tuple[Verdict, ...]
    fastest: int | None


def row_error(candidate: Array, baseline: Array) -> float:
    """Standard error, by the choice of rows, of the difference of two mean accuracies on the same rows.

    From (S, N) arrays that say which rows each seed gets right.
    """
    difference = candidate.mean(0) - baseline.mean(0)
    return float(difference.std(ddof=1) / math.sqrt(len(difference)))


def non_inferior(candidate: Array, baseline: Array, rows: float = 0.0) -> tuple[float, float]:
    """One-sided lower bound of the mean paired difference, and p of "`MARGIN` or more worse".

    Student's, over the seeds, whose variance has the one by rows added (a standard error `rows`, see `row_error`);
    with rows = 0 this is the paired t test.
    """
    difference = candidate - baseline
    seeds = len(difference)
    if seeds < 2 or not np.isfinite(difference).all() or not math.isfinite(rows):
        return -math.inf, 1.0
    mean = float(difference.mean())
    error = math.sqrt(float(difference.var(ddof=1)) / seeds + rows**2)
    if error == 0:
        return mean, float(mean <= -MARGIN)
    p = float(student.sf((mean + MARGIN) / error, seeds - 1))
    return mean - float(student.ppf(1 - LEVEL, seeds - 1)) * error, p


def worth_trying(baseline: Curves) -> float:
    """Accuracy of one run from which on its policy can be expected to hold with as many seeds as the baseline has.

    The target, and what the bound will ask for if the policy's seeds vary as the baseline's do.
    """
    final = baseline.mean_before(baseline.epochs)
    error = math.sqrt(2 / len(final)) * float(final.std(ddof=1))
    return float(final.mean() + max(0.0, float(student.ppf(1 - LEVEL, len(final) - 1)) * error - MARGIN))


def judge(candidate: Curves, epoch: int, baseline: Curves, rows: float = 0.0) -> Verdict:
    """The rule, after one epoch that was chosen before."""
    final = baseline.mean_before(baseline.epochs)
    mean = candidate.mean_before(epoch)
    bound, p = non_inferior(mean, final, rows)
    window = candidate.accuracy[:, max(0, epoch - WINDOW) : epoch]
    steady = epoch >= WINDOW and bool((window >= final.mean() - MARGIN).all())
    holds = steady and bound > -MARGIN
    return Verdict(epoch, candidate.time_of(epoch), float((mean - final).mean()), bound, p, holds)


def _not_found(looks: Sequence[Verdict]) -> Verdict:
    """At the end, where it does not hold; or not with so many others."""
    if not looks:
        return Verdict(None, math.inf, math.nan, -math.inf, 1.0, False)
    return replace(looks[-1], epoch=None, seconds=math.inf, holds=False)


def decide(baseline: Curves, candidates: Sequence[Curves], rows: Sequence[float]) -> Decision:
    """The candidate that is iso-accurate at Holm's level with the least training time.

    Parameters
    ----------
    rows : standard errors by rows, one for each candidate
    """
    tried = [
        [judge(candidate, epoch, baseline, error) for epoch in range(WINDOW, candidate.epochs + 1)]
        for candidate, error in zip(candidates, rows, strict=True)
    ]
    found: dict[int, Verdict] = {}
    while True:  # Holm: the level is shared by those that are left
        level = LEVEL / max(1, len(tried) - len(found))
        more = {
            i: next((verdict for verdict in looks if verdict.holds and verdict.p < level), None)
            for i, looks in enumerate(tried)
            if i not in found
        }
        if not any(more.values()):
            break
        found |= {i: verdict for i, verdict in more.items() if verdict}
    verdicts = tuple(found.get(i) or _not_found(looks) for i, looks in enumerate(tried))
    longest = baseline.time_of(baseline.epochs)
    ahead = [i for i, verdict in enumerate(verdicts) if verdict.holds and verdict.seconds < longest]
    target = float(baseline.mean_before(baseline.epochs).mean())
    return Decision(target, verdicts, min(ahead, key=lambda i: verdicts[i].seconds, default=None))
