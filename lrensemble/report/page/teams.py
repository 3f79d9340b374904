"""Very many teams of a pool in few numbers: accuracy against diversity on validation, scores by size on test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.diversity import (
    METRICS,
    TeamScores,
    all_teams,
    get_metric,
    team_diversity,
    team_votes,
    to_indicators,
)
from lrensemble.report.diversity_info import rank_correlations

METRIC = "BD"
EVERY = 16  # members of whom every team is scored; of more, a sample
WORK = 4e10  # probabilities to average, on each split: seconds on two cores
MOST, LEAST = 20_000, 400  # teams in a sample
SIZES = 24  # different team sizes in a sample
ROWS = 2**28  # bytes of predictions in memory at a time
POINTS = 200  # the best teams, each with its members
CELLS = (44, 30)  # of the density of all teams: columns (diversity), rows (accuracy)


@dataclass(frozen=True)
class SizeRow:
    """Teams of one size on the test split: mean, and what 90 % of them lie between."""

    size: int
    teams: int
    accuracy: tuple[float, float, float]  # mean, 5 %, 95 %
    nll: tuple[float, float, float] | None  # None where members give labels


@dataclass(frozen=True)
class TeamPoint:
    """One team of two or more with equal weights."""

    members: list[int]  # numbers of the members, from 1
    diversity: float
    accuracy: float  # on validation
    test_accuracy: float


@dataclass(frozen=True)
class Cell:
    """How many teams have a diversity and an accuracy (on validation) within these bounds."""

    diversity: tuple[float, float]
    accuracy: tuple[float, float]
    teams: int


@dataclass(frozen=True)
class Teams:
    """All teams of a pool, or a sample of them. Equal weights, soft vote.

    Attributes
    ----------
    metric : str
        Of diversity; larger = more diverse.
    scored, total : int
        Teams of two or more that were scored, and that there are.
    points : list of TeamPoint
        The best on validation, best first.
    cells : list of Cell
        The density of all that were scored.
    correlation : dict of int to float
        Spearman's rank correlation of accuracy with diversity among the teams of one size, on validation.
    sizes : list of SizeRow
        On test, which is description: nothing is chosen by it.
    """

    metric: str
    title: str
    scored: int
    total: int
    points: list[TeamPoint]
    cells: list[Cell]
    correlation: dict[int, float]
    sizes: list[SizeRow]

    @property
    def is_sample(self) -> bool:
        return self.scored < self.total


def score_teams_of_all_sizes(
    predictions: dict[str, Any], labels: dict[str, Array], *, seed: int = 0, hard: bool = False
) -> Teams:
    """Score every team of up to `EVERY` members, of more a random sample of several sizes.

    Parameters
    ----------
    predictions : dict of str to sequences of (N, C) arrays with a ``shape``
        Of ``val`` and ``test``; members in the order of their numbers.
    labels : dict of str to (N,) arrays
    hard : some members give labels, and teams have no NLL
    """
    metric = get_metric(METRIC)
    members = len(predictions["val"])
    work = max(float(np.prod(p.shape)) / members for p in predictions.values())
    if members <= EVERY and 2.0**members * work <= WORK:
        inside, val, test = _every(predictions, labels)
    else:
        # A team costs all members' probabilities: votes are products of the teams' and all members' matrices.
        count = int(np.clip(WORK / (members * work), LEAST, MOST))
        inside = sample_teams(members, count, np.random.default_rng(seed))
        val = _scores(predictions["val"], labels["val"], inside, ["accuracy"])
        val[METRIC] = team_diversity(predictions["val"], labels["val"], inside, [METRIC])[METRIC]
        test = _scores(predictions["test"], labels["test"], inside, ["accuracy", "nll"])
    sizes = inside.sum(1)
    several = np.flatnonzero(sizes > 1)
    x, y = val[METRIC][several], val["accuracy"][several]
    best = several[np.lexsort((sizes[several], -y))[:POINTS]]
    return Teams(
        metric=METRIC,
        title=metric.title,
        scored=len(several),
        total=2**members - 1 - members,
        points=[
            TeamPoint(
                members=[int(m) + 1 for m in np.flatnonzero(inside[i])],
                diversity=float(val[METRIC][i]),
                accuracy=float(val["accuracy"][i]),
                test_accuracy=float(test["accuracy"][i]),
            )
            for i in best
        ],
        cells=_density(x, y, len(labels["val"])),
        correlation=rank_correlations(sizes[several], y, METRICS[METRIC].orient(x)),
        sizes=[
            SizeRow(
                int(size),
                int(here.sum()),
                _spread(test["accuracy"][here]),
                None if hard else _spread(test["nll"][here]),
            )
            for size in np.unique(sizes)
            if (here := sizes == size).any()
        ],
    )


def _every(predictions: dict[str, Any], labels: dict[str, Array]) -> tuple[Array, dict[str, Array], dict[str, Array]]:
    val, test = (
        TeamScores.joined(list(all_teams(np.asarray(predictions[split]), labels[split], ["accuracy", name])))
        for split, name in (("val", METRIC), ("test", "nll"))
    )
    return to_indicators(val.masks, len(predictions["val"])), val.scores, test.scores


def sample_teams(members: int, count: int, rng: np.random.Generator) -> Array:
    """About `count` distinct teams as bool (T, M): every single member, and random ones of up to `SIZES` sizes."""
    sizes = np.unique(np.round(np.geomspace(2, members, min(SIZES, members - 1))).astype(int))
    each = max(1, count // len(sizes))
    order = rng.random((each * len(sizes), members)).argsort(1).argsort(1)
    drawn = np.unique(order < np.repeat(sizes, each)[:, None], axis=0)
    return np.concatenate([np.eye(members, dtype=bool), drawn[np.argsort(drawn.sum(1), kind="stable")]])


def _scores(predictions: Any, labels: Array, inside: Array, names: list[str]) -> dict[str, Array]:
    """Votes of the teams, some rows at a time."""
    members, rows, classes = predictions.shape
    step = max(1, ROWS // (members * classes * 8))
    sums = {name: np.zeros(len(inside)) for name in names}
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        block = np.stack([np.asarray(predictions[m][part]) for m in range(members)])
        for name, values in team_votes(block, labels[part], inside, names).items():
            sums[name] += values * (part.stop - start)
    return {name: total / rows for name, total in sums.items()}


def _spread(values: Array) -> tuple[float, float, float]:
    low, high = np.quantile(values, [0.05, 0.95])
    return float(values.mean()), float(low), float(high)


def _density(x: Array, y: Array, rows: int) -> list[Cell]:
    """Counts on a grid; nothing for empty cells. Its rows are centred on accuracies that `rows` rows can give."""
    finite = np.isfinite(x)
    if not finite.any():
        return []
    x, y = x[finite], y[finite]
    step = max(1, math.ceil(np.ptp(y) * rows / CELLS[1])) / rows
    levels = math.floor(np.ptp(y) / step + 0.5) + 1
    edges = y.min() - 0.5 / rows + step * np.arange(levels + 1)
    counts, xs, ys = np.histogram2d(x, y, bins=(np.histogram_bin_edges(x, CELLS[0]), edges))
    return [
        Cell((float(xs[i]), float(xs[i + 1])), (float(ys[j]), float(ys[j + 1])), int(counts[i, j]))
        for i, j in np.argwhere(counts)
    ]
