"""The front against the definition, over all teams."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lrensemble import UserError
from lrensemble.selection import Greedy, Pareto
from lrensemble.selection import pareto as module
from tests.selection.oracles import make, plain_score


def whole_front(P, y, costs, objective, size=None):
    """(cost, score) of every team that no other beats."""
    members = range(len(P))
    teams = [t for s in range(1, (size or len(P)) + 1) for t in itertools.combinations(members, s)]
    points = [
        (sum(costs[m] for m in t), round(plain_score([m in t for m in members], P, y, objective), 9)) for t in teams
    ]
    return sorted({p for p in points if not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points)})


@pytest.mark.parametrize("objective", ["nll", "accuracy"])
@pytest.mark.parametrize("size", [None, 2])
def test_the_front_is_exact_for_few_members(objective, size):
    for seed in range(3):
        P, y = make(5, 50, seed=seed, dtype=np.float64)
        costs = np.random.default_rng(seed).integers(1, 9, 5)
        selector = Pareto(objective=objective, size=size).fit(P, y, costs=costs)
        found = [
            (cost, round(step.score, 9)) for cost, step in zip(selector.front_costs_, selector.trajectory_, strict=True)
        ]
        np.testing.assert_allclose(found, whole_front(P, y, costs, objective, size))


def test_the_grown_front_holds_what_it_must(monkeypatch):
    P, y = make(7, 60, dtype=np.float64)
    costs = np.arange(1, 8)
    exact = Pareto().fit(P, y, costs=costs)
    monkeypatch.setattr(module, "_EXACT", 0)
    grown = Pareto().fit(P, y, costs=costs)
    assert (np.diff(grown.front_costs_) > 0).all()
    assert (np.diff([step.score for step in grown.trajectory_]) > 0).all()
    assert grown.teams_tried_ < 2**7
    reached = [
        max(s.score for c, s in zip(grown.front_costs_, grown.trajectory_, strict=True) if c <= cost)
        for cost in exact.front_costs_
    ]
    np.testing.assert_allclose(reached, [step.score for step in exact.trajectory_], atol=0.02)
    greedy = Greedy(replacement=False).fit(P, y)
    assert grown.trajectory_[-1].score >= greedy.trajectory_[0].score


def test_budget_and_default_choice():
    P, y = make(6, 200)
    costs = np.array([5.0, 1, 2, 3, 4, 6])
    for budget in (1, 4.5, 100):
        selector = Pareto(budget=budget).fit(P, y, costs=costs)
        assert costs[selector.members_].sum() <= budget
        cheap = [step.score for c, step in zip(selector.front_costs_, selector.trajectory_, strict=True) if c <= budget]
        assert plain_score(selector.weights_, P, y, "nll") == pytest.approx(max(cheap), rel=1e-6)
    with pytest.raises(UserError, match=r"budget 0.5 is not possible: the cheapest member costs 1"):
        Pareto(budget=0.5).fit(P, y, costs=costs)
    chosen = Pareto().fit(P, y, costs=costs)
    assert costs[chosen.members_].sum() <= chosen.front_costs_[-1]
    assert len(Pareto().fit(P, y).front_costs_) == len(set(Pareto().fit(P, y).front_costs_))  # 1 each: sizes


def test_costs_must_fit():
    P, y = make()
    for costs in ([1, 2], [1, 2, 3, 4, 5, -1], [1, 2, 3, 4, 5, np.nan]):
        with pytest.raises(UserError, match="costs must be 6 finite numbers"):
            Pareto().fit(P, y, costs=costs)


def test_time_limit():
    P, y = make(12, 30)
    selector = Pareto(time_limit=1e-9).fit(P, y)
    assert selector.stopped_ == "time limit of 1e-09 s after 12 teams"
    assert len(selector.members_) == 1
