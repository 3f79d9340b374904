"""The diversity of a pool in numbers: pairs, teams, and accuracy against diversity of very many teams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from lrensemble.array import Array
from lrensemble.diversity import (
    METRICS,
    TeamScores,
    all_teams,
    get_metric,
    mask_of,
    number_of_teams,
    pairwise,
    predicted_labels,
    team_diversity,
    team_votes,
    to_masks,
)
from lrensemble.errors import UserError
from lrensemble.metrics import correct_rows
from lrensemble.pool import Member, Pool
from lrensemble.pool.pool import by_accuracy

EVERY = 18  # members of whom every team is scored; of more, a sample
SAMPLE = 100_000  # teams
MOST_MEMBERS = 64  # in a bit mask


@dataclass(frozen=True, eq=False)
class Diversity:
    """What `lrensemble diversity` shows; everything on the validation split.

    Attributes
    ----------
    metric : str
        The metric of `pairs` and of the teams.
    ids, labels : list of str
        Of the members, best validation accuracy first; every mask and matrix counts them in this order.
    accuracies : (M,) array
    pairs : (M, M) array or None
        None for a metric that is not defined on pairs.
    named : dict of str to dict
        Every metric, the accuracy and the size of all members together and of the pool's saved teams.
    teams : TeamScores
        ``accuracy`` (soft vote, equal weights) and ``metric`` of every team of two or more, or of a sample.
    total : int
        How many such teams there are.
    correlation : dict of int to float
        Spearman's rank correlation of accuracy with diversity (oriented: positive = the more diverse the better) over
        the teams of one size.
    interrupted : bool
        True when Ctrl-C ended the enumeration: `teams` holds what was found until then.
    """

    metric: str
    ids: list[str]
    labels: list[str]
    accuracies: Array
    pairs: Array | None
    named: dict[str, dict[str, Any]]
    teams: TeamScores
    total: int
    rows: int
    correlation: dict[int, float] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def is_sample(self) -> bool:
        return len(self.teams.masks) < self.total


def best_first(pool: Pool, *splits: str) -> list[Member]:
    """The usable members, best validation accuracy first: the order of their numbers in pictures and on the page."""
    return sorted(pool.usable(*splits), key=by_accuracy)


def pool_diversity(pool: Pool, metric: str = "BD", *, best: int | None = None, seed: int = 0) -> Diversity:
    """Measure the diversity of a pool's complete members on its validation split.

    With up to `EVERY` members every team is scored, of more a random sample of `SAMPLE` teams, of all sizes alike.
    `best` leaves out all but the so many members of the best validation accuracy, and the teams that need others.

    Raises
    ------
    UserError
        Unknown metric, fewer than two or more than 64 members, damaged predictions.
    """
    name = get_metric(metric).name
    members = best_first(pool, "val")
    if best is not None:
        if not 2 <= best <= MOST_MEMBERS:
            raise UserError(f"--best {best} is not possible: give 2 to {MOST_MEMBERS}")
        members = members[:best]
    if len(members) < 2:
        raise UserError(f"{pool.path} has {len(members)} complete members: diversity needs 2 or more")
    if len(members) > MOST_MEMBERS:
        raise UserError(
            f"{pool.path} has {len(members)} complete members, and a team is a mask of {MOST_MEMBERS} bits: "
            f"--best {MOST_MEMBERS} takes the best {MOST_MEMBERS}"
        )
    labels = pool.labels("val")
    predictions = np.asarray(pool.predictions("val", members))
    predicted = predicted_labels(predictions)
    ids = [member.id for member in members]
    named = {"(all members)": list(range(len(ids)))}
    for team in pool.teams:
        if set(team.members) <= set(ids):
            named[team.name] = sorted(ids.index(i) for i in team.members)
    masks = np.array([mask_of(team) for team in named.values()], dtype=np.uint64)
    measured = team_diversity(predicted, labels, masks)
    accuracy = team_votes(predictions, labels, masks, ["accuracy"])["accuracy"]
    interrupted = False
    found: list[TeamScores] = []
    total = number_of_teams(len(ids)) - len(ids)
    try:
        if len(ids) <= EVERY:
            for chunk in all_teams(predictions, labels, ["accuracy", name], chunk=1 << 14):
                found.append(chunk)
        else:
            found.append(_sample(predictions, predicted, labels, name, np.random.default_rng(seed)))
    except KeyboardInterrupt:
        interrupted = True
        if not found:
            raise
    teams = TeamScores.joined(found)
    teams = teams.only(np.bitwise_count(teams.masks) > 1)
    return Diversity(
        metric=name,
        ids=ids,
        labels=[member.record.spec.label for member in members],
        accuracies=correct_rows(predictions, labels).mean(-1),
        pairs=pairwise(predicted, labels, name) if METRICS[name].kind == "pairwise" else None,
        named={
            team: {
                "members": len(indices),
                "accuracy": float(accuracy[i]),
                **{key: float(values[i]) for key, values in measured.items()},
            }
            for i, (team, indices) in enumerate(named.items())
        },
        teams=teams,
        total=total,
        rows=len(labels),
        correlation=rank_correlations(
            np.bitwise_count(teams.masks), teams.scores["accuracy"], METRICS[name].orient(teams.scores[name])
        ),
        interrupted=interrupted,
    )


def _sample(predictions: Array, predicted: Array, labels: Array, name: str, rng: np.random.Generator) -> TeamScores:
    """Random teams, every size from 2 to M equally often."""
    total = len(predictions)
    order = rng.random((SAMPLE, total)).argsort(1).argsort(1)
    masks = np.unique(to_masks(order < rng.integers(2, total + 1, SAMPLE)[:, None]))
    scores = team_votes(predictions, labels, masks, ["accuracy"])
    return TeamScores(masks, {**scores, **team_diversity(predicted, labels, masks, [name])})


def rank_correlations(sizes: Array, accuracy: Array, oriented: Array) -> dict[int, float]:
    """Spearman's rank correlation of accuracy with diversity, by team size; positive = diversity goes with accuracy.

    Of teams of one size only, ten or more: larger teams are more accurate whatever their diversity. `oriented` is the
    diversity as lower = more diverse.
    """
    result = {}
    for size in np.unique(sizes):
        here = (sizes == size) & np.isfinite(oriented)
        # Teams that tie shall tie, whatever the order in which their pairs were added up.
        x, y = accuracy[here].round(12), -oriented[here].round(12)
        if here.sum() >= 10 and np.ptp(x) > 0 and np.ptp(y) > 0:
            result[int(size)] = float(spearmanr(x, y).statistic)
    return result
