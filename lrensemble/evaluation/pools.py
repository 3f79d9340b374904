"""The same experiment in several pools (other base seeds): what holds over training runs, not only over test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrensemble.errors import UserError
from lrensemble.evaluation.results import BASELINES, LEVEL, TOGETHER, Evaluation
from lrensemble.metrics import t_interval
from lrensemble.pool import Pool

ENOUGH = 3  # pools that can show something: two that happen to agree have an interval of width 0


@dataclass(frozen=True)
class Spread:
    """Mean over pools, standard deviation (ddof 1), and the 95 % t interval of the mean."""

    pools: int
    mean: float
    sd: float
    low: float
    high: float

    @property
    def direction(self) -> int:
        """1 or -1 when the interval of `ENOUGH` pools excludes zero on that side, else 0."""
        if self.pools < ENOUGH or self.sd == 0:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


@dataclass(frozen=True)
class OverPools:
    """One team (by its name) in several pools."""

    name: str
    pools: int
    members: float
    accuracy: Spread
    nll: Spread | None  # None where members that give labels take part
    gains: dict[str, Spread]  # points of accuracy over each baseline that it met in every pool


def check_alike(pools: Sequence[Pool]) -> None:
    """Raise `UserError` unless the pools are different ones with the same test rows."""
    if len({pool.path.resolve() for pool in pools}) < len(pools):
        raise UserError("a pool is named twice: several pools are independent repetitions of an experiment")
    first = pools[0]
    for pool in pools[1:]:
        rows = [{k: v for k, v in of.task.labels_sha256.items() if k.startswith("test")} for of in (pool, first)]
        if rows[0] != rows[1]:
            raise UserError(f"{pool.path} has other test rows than {first.path}: only pools of one task make a mean")
        if shared := {member.id for member in pool.complete} & {member.id for member in first.complete}:
            raise UserError(
                f"{pool.path} and {first.path} share {len(shared)} members, so they are no independent repetitions: "
                "train the pools with different seeds (seeds=[1])"
            )


def over_pools(results: Sequence[Evaluation]) -> list[OverPools]:
    """Means over pools of every team that was evaluated in all of them.

    The pools are trained independently, so that, unlike the intervals of one evaluation, these tell how far another
    training could differ; the test rows are the same.
    """
    if len(results) < 2:
        raise UserError("means over pools need at least 2 pools")
    everywhere = set.intersection(*({score.name for score in result.scores} for result in results))
    names = [score.name for score in results[0].scores if score.name in everywhere]
    found = []
    for name in names:
        scores = [result.score(name) for result in results]
        nll = [score.nll for score in scores if score.nll is not None]
        gains = {}
        for baseline in (*BASELINES, TOGETHER):
            met = [row for result in results for row in result.against(baseline) if row.name == name]
            if len(met) == len(results):
                gains[baseline] = _spread([row.accuracy_gain.value for row in met])
        found.append(
            OverPools(
                name=name,
                pools=len(results),
                members=float(np.mean([score.members for score in scores])),
                accuracy=_spread([score.accuracy for score in scores]),
                nll=_spread(nll) if len(nll) == len(scores) else None,
                gains=gains,
            )
        )
    return found


def _spread(values: Sequence[float]) -> Spread:
    interval = t_interval(values, LEVEL)
    assert interval is not None  # two pools at least
    return Spread(len(values), float(np.mean(values)), float(np.std(values, ddof=1)), *interval)
