"""Focal diversity selection (Wu et al. 2021, CVPR: FQ and EQ): two phases of clustering, then the best of the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.diversity import EQ_METRICS, METRICS, all_masks, eq_scores, focal_scores, fq_scores, get_metric
from lrensemble.errors import UserError, did_you_mean
from lrensemble.selection.ballots import Ballots
from lrensemble.selection.enumerate import Enumerating, best_team, equal_votes

_ROUNDS = 100  # rounds of k-means


@dataclass(eq=False, repr=False)
class Focal(Enumerating):
    """Keep the teams that are diverse and accurate by focal diversity, and return the best of them.

    Phase 1: for every focal member and team size, the teams with this member are clustered in two by accuracy and focal
    score; those on the good side under any of their members go on. Phase 2: within each size the teams left are
    clustered by accuracy and FQ score (the mean over members of the scaled focal scores). The good sides of all sizes
    are the candidates, and `objective` decides among them, ties as in `BruteForce`.

    Where diversity says nothing (a size with one team, a pool without errors, teams of one member), no team is dropped.

    Parameters
    ----------
    size : int, optional
        Any number from 2 when not given.
    metric : str
        A name of `lrensemble.diversity.METRICS`, or "EQ": phase 1 with each of three metrics, where two must agree,
        phase 2 on the mean of their FQ scores.
    max_teams : int
        Refuse (`UserError`) rather than run for minutes.

    Attributes
    ----------
    candidates_ : (K,) array of int
        Bit masks of the teams that both phases kept.
    """

    title = "focal"
    max_members = 64  # of a bit mask

    objective: str = "nll"
    size: int | None = None
    metric: str = "GD"
    max_teams: int = 200_000
    time_limit: float | None = None

    def _select(self, P: Array, y: Array) -> tuple[Array, int]:
        total = len(P)
        names = metric_names(self.metric)
        self._refuse_too_much(total)
        masks = all_masks(total, self._sizes(total))
        team_sizes = np.bitwise_count(masks)
        ballots = Ballots(P, y)
        accuracy = equal_votes(ballots, masks, "accuracy")
        predicted = P.argmax(-1)
        kept: list[Array] = []
        for size in np.unique(team_sizes):
            if size > 2 and kept and self._over(f"teams of up to {size - 1} members"):
                break
            here = team_sizes == size
            kept.append(masks[here][self._good(predicted, y, masks[here], accuracy[here], names)])
        several = [part for part in kept if np.bitwise_count(part[0]) > 1]
        self.candidates_: Array = np.concatenate(several or kept)
        return best_team(self.candidates_, ballots, self.objective), len(masks)

    def _good(self, predicted: Array, y: Array, masks: Array, accuracy: Array, names: list[str]) -> Array:
        """Which teams, all of one size, both phases keep; all where neither can tell."""
        sizes = np.bitwise_count(masks)
        everything = np.ones(len(masks), dtype=bool)
        if len(masks) == 1 or sizes[0] == 1:
            return everything
        focal = focal_scores(predicted, y, masks, names)
        votes = np.zeros(len(masks), dtype=int)
        for scores in focal.values():
            under_any = np.zeros(len(masks), dtype=bool)
            for member in scores:
                under_any |= diverse_and_accurate(accuracy, member)
            votes += under_any
        first = votes > len(names) // 2
        score = team_scores(focal, sizes)
        second = np.zeros(len(masks), dtype=bool)
        second[first] = diverse_and_accurate(accuracy[first], score[first])
        return second if second.any() else everything


def metric_names(metric: str) -> list[str]:
    """Return the metrics behind a name: those of EQ, or one; `UserError` for unknown names."""
    if metric.upper() == "EQ":
        return list(EQ_METRICS)
    try:
        return [get_metric(metric).name]
    except UserError:
        raise UserError(f"unknown diversity metric {metric!r}: {did_you_mean(metric, ['EQ', *METRICS])}") from None


def team_scores(focal: dict[str, Array], sizes: Array) -> Array:
    """FQ scores of one metric, EQ scores of several: (T,)."""
    fq = {name: fq_scores(scores, sizes) for name, scores in focal.items()}
    return next(iter(fq.values())) if len(fq) == 1 else eq_scores(fq, sizes)


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
    for _ in range(_ROUNDS):
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
