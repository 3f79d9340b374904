"""Selectors against naive loops, exhaustive search and properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import accuracy_score, log_loss

from lrensemble import UserError, selection
from lrensemble.selection import SELECTORS, Ballots, BestSingle, BruteForce, Greedy, Random, TopK, make_selector


def make(members=6, rows=60, classes=3, seed=0, quality=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(size=(members, rows, classes)) * 1.5
    logits[:, np.arange(rows), labels] += quality * rng.uniform(0.2, 1.5, (members, 1))
    p = np.exp(logits)
    return (p / p.sum(-1, keepdims=True)).astype(np.float32), labels


def naive(weights, P, y, objective):
    vote = sum(w * p.astype(np.float64) for w, p in zip(weights, P, strict=True)) / sum(weights)
    if objective == "accuracy":
        return accuracy_score(y, vote.argmax(1))
    return -log_loss(y, vote / vote.sum(1, keepdims=True), labels=range(P.shape[2]))


@pytest.mark.parametrize("objective", selection.OBJECTIVES)
def test_scores_in_chunks_equals_naive(objective, monkeypatch):
    P, y = make()
    monkeypatch.setattr(selection.ballots, "_TEAMS", 5)
    monkeypatch.setattr(selection.ballots, "_ROWS", 7)
    teams = [team for size in range(1, 7) for team in itertools.combinations(range(6), size)]
    weights = np.stack([[(i in team) / len(team) for i in range(6)] for team in teams])
    expected = [naive(w, P, y, objective) for w in weights]
    for memory in (2**20, 2**14):
        np.testing.assert_allclose(Ballots(P, y, memory=memory).scores(weights, objective), expected, rtol=1e-6)


@pytest.mark.parametrize("objective", selection.OBJECTIVES)
@pytest.mark.parametrize("size", [None, 1, 3, 6])
def test_brute_force_is_the_optimum(objective, size):
    for seed in range(5):
        P, y = make(seed=seed)
        selector = BruteForce(objective=objective, size=size).fit(P, y)
        teams = [t for s in ([size] if size else range(1, 7)) for t in itertools.combinations(range(6), s)]
        best = max(naive([i in t for i in range(6)], P, y, objective) for t in teams)
        assert naive(selector.weights_, P, y, objective) == pytest.approx(best, rel=1e-7)
        assert selector.teams_tried_ == len(teams)
        assert size is None or len(selector.members_) == size


def test_brute_force_refuses_what_takes_hours():
    P, y = make(members=21, rows=10)
    with pytest.raises(UserError, match=r"2,097,151 teams .* give a size of \d+ or less"):
        BruteForce().fit(P, y)
    assert len(BruteForce(size=2).fit(P, y).members_) == 2


def naive_greedy(P, y, objective, size, steps=40):
    """Caruana's loop, written out: (weights, prefix scores)."""
    picks, history = [], []
    for _ in range(steps):
        best = None
        for m in range(len(P)):
            if size is not None and len(set(picks)) == size and m not in picks:
                continue
            weights = np.bincount([*picks, m], minlength=len(P))
            key = (
                round(naive(weights, P, y, objective), 12),
                m in picks,
                naive(weights, P, y, "nll"),
                -m,
            )
            if best is None or key > best[0]:
                best = (key, m)
        picks.append(best[1])
        history.append(best[0][0])
    stop = int(np.argmax(history)) + 1
    return np.bincount(picks[:stop], minlength=len(P)) / stop


@pytest.mark.parametrize("objective", selection.OBJECTIVES)
@pytest.mark.parametrize("size", [None, 2])
def test_greedy_equals_the_loop_written_out(objective, size):
    for seed in range(2):
        P, y = make(members=5, seed=seed, rows=30)
        P = P.astype(np.float64)
        P /= P.sum(-1, keepdims=True)
        np.testing.assert_allclose(
            Greedy(objective=objective, size=size).fit(P, y).weights_, naive_greedy(P, y, objective, size)
        )


def test_greedy_ties():
    """Equal members: the one already chosen, then the lower index; of equal prefixes the shortest."""
    P, y = make(members=1)
    twins = np.concatenate([P, P, P])
    selector = Greedy(objective="accuracy").fit(twins, y)
    np.testing.assert_array_equal(selector.weights_, [1, 0, 0])
    assert [step.member for step in selector.trajectory_] == [0] * 40


def test_greedy_prefers_the_better_nll_among_equal_accuracies():
    y = np.array([0, 1])
    sure, unsure = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0.6, 0.4], [0.4, 0.6]])
    np.testing.assert_array_equal(Greedy(objective="accuracy").fit(np.stack([unsure, sure]), y).weights_, [0, 1])


def test_top_k_and_best_single():
    P, y = make(members=8)
    ranked = sorted(range(8), key=lambda m: -naive(np.eye(8)[m], P, y, "nll"))
    assert set(TopK(size=3).fit(P, y).members_) == set(ranked[:3])
    assert list(BestSingle().fit(P, y).members_) == [ranked[0]]
    free = TopK().fit(P, y)
    prefixes = [naive([m in ranked[:k] for m in range(8)], P, y, "nll") for k in range(1, 9)]
    assert len(free.members_) == int(np.argmax(prefixes)) + 1


def test_random_is_repeatable_and_of_the_size():
    P, y = make(members=8)
    first, again, other = (Random(size=4, seed=s).fit(P, y).members_ for s in (0, 0, 1))
    assert len(first) == 4
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(SELECTORS)), st.integers(1, 6), st.integers(0, 1000), st.sampled_from(["nll", "accuracy"])
)
def test_every_selector_gives_a_team(name, members, seed, objective):
    P, y = make(members=members, rows=25, seed=seed)
    if (name, objective) == ("convex", "accuracy"):
        with pytest.raises(UserError, match="objective accuracy is not possible with convex"):
            make_selector(name, objective=objective)
        objective = "nll"
    selector = make_selector(name, objective=objective).fit(P, y)
    assert selector.weights_.shape == (members,)
    assert (selector.weights_ >= 0).all()
    assert selector.weights_.sum() == pytest.approx(1)
    np.testing.assert_array_equal(np.flatnonzero(selector.weights_), selector.members_)
    expected = np.average(P.astype(np.float64), axis=0, weights=selector.weights_)
    np.testing.assert_allclose(selector.predict_proba(P), expected, rtol=1e-12)
    assert clone(selector).get_params() == selector.get_params()
    if name in ("greedy", "top-k", "brute-force"):
        single = make_selector("best-single", objective=objective).fit(P, y)
        assert naive(selector.weights_, P, y, objective) >= naive(single.weights_, P, y, objective) - 1e-7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda P, y: make_selector("gredy"), "did you mean 'greedy'"),
        (lambda P, y: TopK(size=7).fit(P, y), "size 7 is not possible: the pool has 6"),
        (lambda P, y: TopK(size=0).fit(P, y), "size 0"),
        (lambda P, y: Greedy(objective="acuracy").fit(P, y), "did you mean 'accuracy'"),
        (lambda P, y: Greedy().fit(P[:0], y), "no members"),
    ],
)
def test_errors(call, message):
    with pytest.raises(UserError, match=message):
        call(*make())
