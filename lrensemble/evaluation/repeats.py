"""Select again on other divisions of the rows: how much of a team's gain is this one division?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.evaluation.results import ALL_AVERAGE, BEST_SINGLE
from lrensemble.evaluation.teams import Teams, resolve
from lrensemble.metrics import find_metric, load_metric, summary
from lrensemble.pool import Pool
from lrensemble.pool.costs import inference_costs
from lrensemble.selection import Selector, TopK, make_selector


class Divisions(NamedTuple):
    """One selector on every division: (R,) arrays."""

    promised: Array  # accuracy of its team on the rows that chose it
    accuracy: Array  # on the others
    nll: Array
    size: Array
    top_k: Array  # accuracy of top-k with as many members


@dataclass(frozen=True)
class Repeated:
    """One selector over the divisions: means and standard deviations (ddof 1).

    The divisions share rows and members: the deviations describe the spread, they are no standard errors.
    """

    name: str
    repeats: int
    select_rows: int
    score_rows: int
    members: float  # mean size of its teams
    accuracy: float
    accuracy_sd: float
    nll: float | None  # None where members that give labels can be chosen
    nll_sd: float | None
    gain: float  # points over the best single member of the same division
    gain_sd: float
    better: float  # share of the divisions in which it is better than the best single member
    gain_over_all: float  # points over the average of all members
    gain_over_all_sd: float
    gain_over_top_k: float  # points over top-k with as many members
    gain_over_top_k_sd: float
    optimism: float  # points that its team looked better on the rows that chose it


def redivide(
    pool: Pool, selectors: Mapping[str, Selector], repeats: int, best: Mapping[str, int] | None = None
) -> dict[str, Divisions]:
    """Divide validation and test rows anew (stratified, same sizes), select on one part, score on the other.

    Rows with choices of their own are divided as they come: the place of the right choice is no class of theirs.
    `best`: of selectors that choose from the members alone which are the so many most accurate on the selecting part.
    No member was trained on these rows. What is found describes selectors; it must not choose a team that is then
    evaluated on the same test split.

    Raises
    ------
    UserError
        Fewer than 2 repeats, rows that cannot be divided so that every class is in both parts.
    """
    from sklearn.model_selection import train_test_split

    if repeats < 2:
        raise UserError(f"{repeats} repeats are not possible: a standard deviation needs at least 2")
    members = pool.usable("val", "test")
    parts = [np.asarray(pool.predictions(split, members)) for split in ("val", "test")]
    predictions = np.concatenate(parts, axis=1)
    labels = np.concatenate([pool.labels("val"), pool.labels("test")])
    strata = labels if pool.choices("val") is None else None
    costs, _ = inference_costs(members)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in selectors}
    for seed in range(repeats):
        try:
            chosen, rest = train_test_split(
                np.arange(len(labels)), train_size=parts[0].shape[1], random_state=seed, stratify=strata
            )
        except ValueError as error:
            raise UserError(f"{pool.path}: its rows cannot be divided anew: {error}") from None
        val, test = predictions[:, chosen], predictions[:, rest]
        y, y_test = labels[chosen], labels[rest]
        ranked = np.argsort([-np.mean(member.argmax(1) == y) for member in val], kind="stable")
        for name, selector in selectors.items():
            kept = np.sort(ranked[: (best or {}).get(name)])
            some = val if len(kept) == len(val) else val[kept]
            selector.fit(some, y, costs=costs[kept])
            size = len(selector.members_)
            top = TopK(size=size, objective=selector.objective, vote=selector.vote, temperature=selector.temperature)
            promised = summary(selector.predict_proba(some), y)["accuracy"]
            scores = summary(selector.predict_proba(test if some is val else test[kept]), y_test)
            top_k = summary(top.fit(val, y).predict_proba(test), y_test)["accuracy"]
            found[name].append((promised, scores["accuracy"], scores["nll"], size, top_k))
    return {name: Divisions(*np.array(rows).T) for name, rows in found.items()}


def repeat(pool: Pool, teams: Teams = None, repeats: int = 20, *, trust: bool = False) -> list[Repeated]:
    """Run the selectors of teams (default: all) again on `repeats` divisions; the two baselines come first.

    `trust`: an objective ``package.module:function`` of a team may be imported and called.
    """
    chosen, _ = resolve(pool, teams, "val", "test")
    for team in chosen:
        (load_metric if trust else find_metric)(team.parameters.get("objective", "nll"))
    baselines = {
        f"({BEST_SINGLE})": make_selector("best-single", objective="accuracy"),
        f"({ALL_AVERAGE})": make_selector("all"),
    }
    selectors = baselines | {team.name: make_selector(team.selector, **team.parameters) for team in chosen}
    best = {team.name: int(team.parameters["best"]) for team in chosen if "best" in team.parameters}
    found = redivide(pool, selectors, repeats, best)
    single, everyone = (found[name].accuracy for name in baselines)
    rows = pool.task.rows
    hard = any(member.record.is_labels for member in pool.usable())
    result = []
    for name, of in found.items():
        gains = [100 * (of.accuracy - other) for other in (single, everyone, of.top_k)]
        (gain, gain_sd), (over_all, over_all_sd), (over_top, over_top_sd) = [_spread(values) for values in gains]
        accuracy, accuracy_sd = _spread(of.accuracy)
        nll, nll_sd = (None, None) if hard else _spread(of.nll)
        result.append(
            Repeated(
                name=name,
                repeats=repeats,
                select_rows=rows["val"],
                score_rows=rows["test"],
                members=float(of.size.mean()),
                accuracy=accuracy,
                accuracy_sd=accuracy_sd,
                nll=nll,
                nll_sd=nll_sd,
                gain=gain,
                gain_sd=gain_sd,
                better=float((of.accuracy > single).mean()),
                gain_over_all=over_all,
                gain_over_all_sd=over_all_sd,
                gain_over_top_k=over_top,
                gain_over_top_k_sd=over_top_sd,
                optimism=float(100 * (of.promised - of.accuracy).mean()),
            )
        )
    return result


def _spread(values: Array) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1))
