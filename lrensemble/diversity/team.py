"""Diversity of one team, of all pairs, and of any list of teams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lrensemble.array import Array
from lrensemble.diversity.counts import checked, count, error_patterns
from lrensemble.diversity.formulas import evaluator, pair_values
from lrensemble.diversity.lists import TeamList
from lrensemble.diversity.registry import METRICS, get_metric, per_row
from lrensemble.diversity.teams import check_members, indicators_of
from lrensemble.errors import UserError


def diversity(
    predictions: Any,
    labels: ArrayLike,
    team: Sequence[int] | None = None,
    metric: str = "CK",
    *,
    oriented: bool = False,
) -> float:
    """Diversity of one team.

    Parameters
    ----------
    predictions : (M, N, C) probabilities or (M, N) predicted classes
    labels : (N,) true classes
    team : sequence of int, optional
        Member indices; all members when not given.
    metric : str
        A name of `METRICS`.
    oriented : bool
        Lower = more diverse for every metric, as EnsembleBench reports them; else the raw value.

    Returns
    -------
    float
        NaN where the metric is undefined: `Metric.undefined` says when.

    Examples
    --------
    >>> diversity([[0, 1, 1, 0], [0, 1, 0, 1]], [0, 1, 1, 1], metric="BD")
    0.5
    """
    predicted, y = checked(predictions, labels)
    predicted = predicted[check_members(team, len(predicted))]
    everybody = np.ones((1, len(predicted)), dtype=bool)
    return float(team_diversity(predicted, y, everybody, [metric], oriented=oriented)[get_metric(metric).name][0])


def pairwise(predictions: Any, labels: ArrayLike, metric: str = "CK", *, oriented: bool = False) -> Array:
    """Values of a pairwise metric for all pairs of members: (M, M), symmetric, NaN where undefined.

    The diagonal holds a member's value with itself (kappa, Q and rho 1, disagreement 0, double fault its error rate).
    """
    found = get_metric(metric)
    if found.kind != "pairwise":
        known = ", ".join(sorted(name for name, metric in METRICS.items() if metric.kind == "pairwise"))
        raise UserError(f"metric {found.name!r} has no matrix of pairs, it is defined on teams: use {known}")
    values = pair_values(found.name)(count(*checked(predictions, labels)))
    return found.orient(values) if oriented else values


def team_diversity(
    predictions: Any,
    labels: ArrayLike,
    teams: ArrayLike,
    metrics: Iterable[str] | None = None,
    *,
    oriented: bool = False,
) -> dict[str, Array]:
    """Diversity of very many teams: metric name -> (T,) float64, NaN where undefined.

    Parameters
    ----------
    predictions, labels
        As in `diversity`.
    teams : (T,) integer bit masks (bit m = member m; up to 64 members), or (T, M) bool
    metrics : names, optional
        All of `METRICS` when not given.

    Notes
    -----
    Counts over rows are made once, O(M^2 N); then a team costs O(M^2) a metric ("E" and "CF": O(M) times the number of
    distinct error patterns). For all 2^M teams `all_teams` is faster.
    """
    return diversity_scorer(predictions, labels, metrics, oriented=oriented)(teams)


def diversity_scorer(
    predictions: Any, labels: ArrayLike, metrics: Iterable[str] | None = None, *, oriented: bool = False
) -> Callable[[ArrayLike], dict[str, Array]]:
    """`team_diversity` for teams that come in portions: counts once, returns a function of the teams."""
    predicted, y = checked(predictions, labels)
    names = [get_metric(name).name for name in (METRICS if metrics is None else metrics)]
    patterns = error_patterns(predicted, y) if per_row(names) else None
    evaluate = evaluator(names, count(predicted, y))

    def score(teams: ArrayLike) -> dict[str, Array]:
        values = evaluate(TeamList(indicators_of(teams, len(predicted)), patterns))
        return {name: METRICS[name].orient(v) if oriented else v for name, v in values.items()}

    return score
