"""Diversity of one team, of all pairs, and of any list of teams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrensemble.diversity.counts import checked, count, error_patterns
from lrensemble.diversity.formulas import PAIR_VALUES, evaluator
from lrensemble.diversity.lists import TeamList
from lrensemble.diversity.registry import METRICS, NO_ROWS, ONE_MODEL, get_metric
from lrensemble.diversity.teams import to_indicators
from lrensemble.errors import UserError

Array = NDArray[Any]
PER_ROW = ("E", "CF")  # need the error patterns, not only counts over pairs


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
        NaN where the metric is undefined; `why_undefined` says why.

    Examples
    --------
    >>> diversity([[0, 1, 1, 0], [0, 1, 0, 1]], [0, 1, 1, 1], metric="BD")
    0.5
    """
    predicted, y = checked(predictions, labels)
    predicted = predicted[_members(team, len(predicted))]
    everybody = np.ones((1, len(predicted)), dtype=bool)
    return float(team_diversity(predicted, y, everybody, [metric], oriented=oriented)[get_metric(metric).name][0])


def pairwise(predictions: Any, labels: ArrayLike, metric: str = "CK", *, oriented: bool = False) -> Array:
    """Values of a pairwise metric for all pairs of members: (M, M), symmetric, NaN where undefined.

    The diagonal holds a member's value with itself (kappa, Q and rho 1, disagreement 0, double fault its error rate).
    """
    found = get_metric(metric)
    if found.name not in PAIR_VALUES:
        raise UserError(f"metric {found.name!r} has no matrix of pairs, it is defined on teams: use {_known_pairs()}")
    values = PAIR_VALUES[found.name](count(*checked(predictions, labels)))
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
    predicted, y = checked(predictions, labels)
    names = [get_metric(name).name for name in (METRICS if metrics is None else metrics)]
    indicators = _indicators(teams, len(predicted))
    patterns = error_patterns(predicted, y) if set(names) & set(PER_ROW) else None
    values = evaluator(names, count(predicted, y))(TeamList(indicators, patterns))
    return {name: METRICS[name].orient(v) if oriented else v for name, v in values.items()}


def why_undefined(predictions: Any, labels: ArrayLike, team: Sequence[int] | None, metric: str) -> str | None:
    """Say why `diversity` is NaN for this team and metric; None when it is not."""
    found = get_metric(metric)
    predicted, y = checked(predictions, labels)
    members = _members(team, len(predicted))
    if not np.isnan(diversity(predicted, y, members, found.name)):
        return None
    if len(members) == 1:
        return ONE_MODEL
    if not len(y):
        return NO_ROWS
    if found.name in PAIR_VALUES:
        holes = np.argwhere(np.triu(np.isnan(pairwise(predicted[members], y, found.name)), 1))
        i, j = (members[k] for k in holes[0])
        return f"{found.undefined[0]} (members {i} and {j})"
    return found.undefined[0]


def _members(team: Sequence[int] | None, total: int) -> list[int]:
    members = list(range(total)) if team is None else [int(m) for m in team]
    for m in members:
        if not 0 <= m < total:
            raise UserError(f"there is no member {m}: the pool has members 0 to {total - 1}")
    if not members or len(set(members)) < len(members):
        raise UserError(f"a team names at least one member, and each once, not {members}")
    return members


def _indicators(teams: ArrayLike, members: int) -> Array:
    teams = np.asarray(teams)
    if teams.ndim == 1 and teams.dtype.kind in "iu":
        if len(teams) and (int(teams.min()) < 1 or int(teams.max()) >> members):
            raise UserError(f"team masks must be 1 to 2^{members} - 1, not {teams.min()} to {teams.max()}")
        return to_indicators(teams, members)
    if teams.ndim != 2 or teams.shape[1] != members:
        raise UserError(f"teams must be bit masks (teams,) or bool (teams, {members}), not {teams.shape}")
    if not teams.any(1).all():
        raise UserError("a team names at least one member: there is a row without any")
    return teams.astype(bool)


def _known_pairs() -> str:
    return ", ".join(sorted(PAIR_VALUES))
