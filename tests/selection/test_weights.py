"""Convex weights by the conditions of the optimum and by SciPy; CMA-ES by what it must reach."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from lrensemble import UserError
from lrensemble.selection import CMAES, All, Convex, Greedy
from tests.selection.oracles import make, plain_score, plain_vote


def kkt(weights, true):
    """Largest violation of: mean(p_m / vote) = 1 for members with weight, <= 1 for the others."""
    slope = (true / (weights @ true)).mean(1)
    return max((slope - 1).max(), np.abs(slope[weights > 0] - 1).max())


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(1, 80), st.integers(2, 4), st.integers(0, 10_000))
def test_soft_weights_meet_the_conditions_of_the_optimum(members, rows, classes, seed):
    P, y = make(members, rows, classes, seed, dtype=np.float64)
    selector = Convex().fit(P, y)
    assert selector.weights_.sum() == pytest.approx(1)
    assert (selector.weights_ >= 0).all()
    assert kkt(selector.weights_, P[:, np.arange(rows), y]) < 1e-4
    assert selector.gap_ < 1e-5
    score = plain_score(selector.weights_, P, y, "nll")
    assert score >= plain_score(Greedy().fit(P, y).weights_, P, y, "nll") - 1e-6


@pytest.mark.parametrize("vote", ["soft", "logit", "borda", "plurality"])
def test_weights_equal_scipys(vote):
    P, y = make(5, 150, 4, quality=0.8, dtype=np.float64)
    selector = Convex(vote=vote).fit(P, y)
    oracle = minimize(
        lambda w: -plain_score(np.maximum(w, 0) + 1e-12, P, y, "nll", vote),
        np.full(5, 1 / 5),
        method="SLSQP",
        bounds=[(0, 1)] * 5,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12},
    )
    found = -plain_score(selector.weights_, P, y, "nll", vote)
    assert found <= oracle.fun + 1e-7
    np.testing.assert_allclose(selector.weights_, oracle.x, atol=5e-3)
    assert selector.gap_ < 1e-6
    np.testing.assert_allclose(selector.predict_proba(P), plain_vote(selector.weights_, P, vote), rtol=1e-7)


def test_identical_members_and_certain_errors():
    P, y = make(1, 30)
    np.testing.assert_allclose(Convex().fit(np.repeat(P, 4, axis=0), y).weights_.sum(), 1)
    certain = np.eye(3, dtype=np.float32)[np.stack([y, (y + 1) % 3])]
    np.testing.assert_allclose(Convex().fit(certain, y).weights_, [1, 0], atol=1e-6)
    np.testing.assert_allclose(Convex().fit(certain[1:], y).weights_, [1])


def test_convex_stops_in_time_and_says_how_far_it_is():
    P, y = make(10, 200)
    selector = Convex(time_limit=1e-9).fit(P, y)
    assert "time limit of 1e-09 s after 0 Newton steps, the NLL is at most" in selector.stopped_
    np.testing.assert_allclose(selector.weights_, 0.1)
    best = plain_score(Convex().fit(P, y).weights_, P, y, "nll")
    assert best - plain_score(selector.weights_, P, y, "nll") <= selector.gap_


def test_majority_is_not_convex():
    with pytest.raises(UserError, match="the majority vote is not convex: use soft"):
        Convex(vote="majority").fit(*make())


@pytest.mark.parametrize("objective", ["nll", "accuracy"])
@pytest.mark.parametrize("vote", ["soft", "majority"])
def test_cma_es(objective, vote):
    pytest.importorskip("cmaes")
    P, y = make(6, 120)
    selector = CMAES(objective=objective, vote=vote, generations=40).fit(P, y)
    start = plain_score(All().fit(P, y).weights_, P, y, objective, vote)
    found = plain_score(selector.weights_, P, y, objective, vote)
    assert found >= start - 1e-12
    assert found == pytest.approx(max(step.score for step in selector.trajectory_), rel=1e-5)
    np.testing.assert_array_equal(CMAES(objective, vote=vote, generations=40).fit(P, y).weights_, selector.weights_)
    if (objective, vote) == ("nll", "soft"):
        assert found == pytest.approx(plain_score(Convex().fit(P, y).weights_, P, y, "nll"), abs=1e-3)


def test_cma_es_size_time_limit_and_one_member():
    pytest.importorskip("cmaes")
    P, y = make(6, 60)
    assert len(CMAES(size=2).fit(P, y).members_) <= 2
    stopped = CMAES(time_limit=1e-9).fit(P, y)
    assert stopped.stopped_ == "time limit of 1e-09 s after 0 of 100 generations"
    np.testing.assert_allclose(stopped.weights_, 1 / 6)
    np.testing.assert_array_equal(CMAES().fit(P[:1], y).weights_, [1])


def test_cma_es_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(UserError, match=r"pip install .*\[cmaes\]"):
        CMAES().fit(*make())
