"""Focal diversity: a team seen only on the rows that one of its members, the focal model, gets wrong.

Wu et al. 2021, "Boosting Ensemble Accuracy by Revisiting Ensemble Diversity Metrics" (CVPR). The papers'
code samples 100 of these negative samples three times; the closed forms use all of them, and are exact.

Everything here is oriented: lower = more diverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lrensemble.array import Array
from lrensemble.diversity.counts import checked, count, error_patterns
from lrensemble.diversity.formulas import evaluator
from lrensemble.diversity.lists import TeamList
from lrensemble.diversity.registry import SIX, get_metric, per_row
from lrensemble.diversity.teams import check_members, indicators_of
from lrensemble.errors import UserError

EQ_METRICS = ("CK", "BD", "GD")


def focal_scores(
    predictions: Any, labels: ArrayLike, teams: ArrayLike, metrics: Iterable[str] = SIX
) -> dict[str, Array]:
    """Exact focal diversity of many teams under each of their members: metric name -> (M, T) float64.

    Parameters
    ----------
    predictions : (M, N, C) probabilities or (M, N) predicted classes
    labels : (N,) true classes
    teams : (T,) bit masks or (T, M) bool
    metrics : names of `METRICS`

    Returns
    -------
    dict of (M, T) arrays
        Entry [f, t]: team t on all the rows that member f gets wrong, lower = more diverse. NaN where f is not in t,
        where f is never wrong, and where the metric is undefined on these rows.

    Notes
    -----
    On the focal model's own negatives every pair with the focal model has N11 = N10 = 0: QS and rho are 0/0. As in
    EnsembleBench such pairs count 0 here, so QS and rho of teams of two are always 0 (degenerate).
    """
    predicted, y = checked(predictions, labels)
    names = [get_metric(name).name for name in metrics]
    indicators = indicators_of(teams, len(predicted))
    scores = {name: np.full(indicators.shape[::-1], np.nan) for name in names}
    for focal, wrong in enumerate(predicted != y):
        having = np.flatnonzero(indicators[:, focal])
        if wrong.any() and len(having):
            for name, values in _on_rows(predicted[:, wrong], y[wrong], indicators[having], names).items():
                scores[name][focal, having] = values
    return scores


def focal_diversity(
    predictions: Any,
    labels: ArrayLike,
    team: Sequence[int],
    focal: int,
    metric: str = "GD",
    *,
    samples: int | None = None,
    repeats: int = 3,
    seed: int = 0,
) -> float:
    """Focal diversity of one team under one focal member, lower = more diverse.

    With `samples` the papers' estimate: the mean over `repeats` draws of that many negatives, with replacement (theirs:
    100 and 3). Without, exact over all negatives. NaN when the focal model is never wrong.
    """
    predicted, y = checked(predictions, labels)
    members = check_members(team, len(predicted))
    if focal not in members:
        raise UserError(f"the focal model {focal} is not in the team {members}: it must be")
    name = get_metric(metric).name
    negatives = np.flatnonzero(predicted[focal] != y)
    if not len(negatives):
        return float("nan")
    rng = np.random.default_rng(seed)
    draws = [negatives] if samples is None else [rng.choice(negatives, samples) for _ in range(repeats)]
    everybody = np.ones((1, len(members)), dtype=bool)
    values = [_on_rows(predicted[members][:, rows], y[rows], everybody, [name])[name][0] for rows in draws]
    return float(np.mean(values))


def _on_rows(predicted: Array, y: Array, indicators: Array, names: list[str]) -> dict[str, Array]:
    patterns = error_patterns(predicted, y) if per_row(names) else None
    values = evaluator(names, count(predicted, y), undefined_pair=0.0)(TeamList(indicators, patterns))
    return {name: get_metric(name).orient(v) for name, v in values.items()}


def scale_by_size(scores: Array, sizes: Array) -> Array:
    """Min-max scale to [0, 1] within every team size (and, for (M, T), every focal model): NaN stays NaN.

    Where all scores of a size are equal they become 0: nothing tells these teams apart.
    """
    scaled = np.full(np.shape(scores), np.nan)
    for size in np.unique(sizes):
        here = sizes == size
        part = scores[..., here]
        known = ~np.isnan(part)
        low = np.where(known, part, np.inf).min(-1, keepdims=True)
        high = np.where(known, part, -np.inf).max(-1, keepdims=True)
        width = np.where(high > low, high - low, 1.0)
        scaled[..., here] = np.where(known, part - np.where(np.isfinite(low), low, 0.0), np.nan) / width
    return scaled


def fq_scores(focal: Array, sizes: Array) -> Array:
    """FQ score of teams, lower = more diverse: mean over members of the scaled focal scores: (T,) from (M, T).

    Scaled min-max within each (focal model, team size), so scores of teams of one size can be compared, of different
    sizes not. Members that are never wrong have no negative samples and are left out of the mean; NaN when all are.
    The papers' code weights by arg-sort positions taken for ranks, so that one member counts 0; here all count alike.
    """
    scaled = scale_by_size(focal, sizes)
    known = ~np.isnan(scaled)
    number = known.sum(0)
    total = np.where(known, scaled, 0.0).sum(0)
    mean: Array = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
    return mean


def eq_scores(fq: dict[str, Array], sizes: Array, metrics: Sequence[str] = EQ_METRICS) -> Array:
    """EQ score: mean of three FQ scores, each scaled to [0, 1] within its team size: (T,); NaN where any is.

    The paper fuses "the top three most representative FQ metrics". Which three and how is our choice: CK (sees the
    predicted classes), BD (pairs) and GD (the whole team): within one size KW is BD up to a factor, FK is a kappa of
    the predicted classes as CK is, and focal QS is degenerate.
    """
    missing = [name for name in metrics if name not in fq]
    if missing:
        raise UserError(f"EQ needs the FQ scores of {', '.join(metrics)}: {', '.join(missing)} not given")
    fused: Array = np.mean([scale_by_size(fq[name], sizes) for name in metrics], axis=0)
    return fused
