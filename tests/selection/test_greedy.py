"""Greedy selection against the plain loop: the same picks, whatever was skipped."""

from __future__ import annotations

import importlib.util
import sys
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lrensemble import UserError
from lrensemble.selection import Ballots, BruteForce, Greedy, Pareto, TopK, screens
from lrensemble.selection import base as base_module
from lrensemble.selection import running as running_module
from lrensemble.selection.flips import RunningAccuracy
from tests.selection.oracles import make, plain_score, plain_way

OBJECTIVES = ["nll", "accuracy"]
SCREENS = [screens.Bounds, *([screens.Products] if importlib.util.find_spec("numba") else [])]


def picks(selector):
    return [step.member for step in selector.trajectory_]


def screened_by(screen):
    return patch.object(running_module, "make_screen", screen)


@settings(max_examples=60, deadline=None)  # the first example compiles
@given(
    st.sampled_from(OBJECTIVES),
    st.sampled_from(SCREENS),
    st.integers(1, 12),
    st.integers(1, 60),
    st.integers(1, 5),
    st.integers(0, 10_000),
    st.sampled_from([0.0, 1.0, 4.0]),
    st.sampled_from(["float16", "float32", "float64", "coarse", "certain", "twins"]),
)
@example("accuracy", screens.Bounds, 5, 14, 2, 43, 1.0, "twins")
@example("accuracy", screens.Bounds, 5, 10, 2, 0, 1.0, "twins")
def test_picks_of_the_plain_loop(objective, screen, members, rows, classes, seed, quality, kind):
    P, y = make(members, rows, classes, seed, quality, dtype=np.float64)
    if kind == "coarse":  # many exact ties
        P = np.round(P * 4) / 4
        P[..., 0] += 1 - P.sum(-1)
        P = np.abs(P) / np.abs(P).sum(-1, keepdims=True)
    elif kind == "certain":
        P = np.eye(classes)[P.argmax(-1)]
    elif kind == "twins":
        P[members // 2 :] = P[: members - members // 2]
    P = P.astype(kind if kind.startswith("float") else np.float32)
    with screened_by(screen):
        selector = Greedy(objective=objective, steps=12).fit(P, y)
    assert picks(selector) == plain_way(P, y, objective, steps=12)


@pytest.mark.parametrize("quality", [0.0, 1.0, 5.0])
def test_picks_of_the_plain_loop_on_a_larger_pool(quality):
    """Rows in more than one block."""
    P, y = make(40, 2500, 5, seed=1, quality=quality)
    expected = plain_way(P, y, "nll", steps=20)
    for screen in SCREENS:
        with screened_by(screen):
            assert picks(Greedy(steps=20).fit(P, y)) == expected
    assert picks(Greedy(objective="accuracy", steps=20).fit(P, y)) == plain_way(P, y, "accuracy", steps=20)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("kind", ["float32", "float64", "extreme"])
def test_screens_keep_the_best_and_little_else(screen, kind):
    P, y = make(60, 1100, 4, seed=2, dtype=np.float64)
    if kind == "extreme":
        P = P**30
        P /= P.sum(-1, keepdims=True)
    ballots = Ballots(P.astype(np.float32 if kind == "float32" else np.float64), y)
    running = running_module.RunningNLL(ballots)
    made = screen(running.true)
    for step in range(1, 8):
        candidates = np.arange(step % 2, 60, 1 + step % 3)
        scores = running.scores(candidates)
        near = made.near(running.sum, step, candidates)
        assert candidates[scores.argmax()] in near
        assert len(near) <= 3
        running.add(int(near[0]))


@pytest.mark.parametrize("power", [0.2, 1, 30])
def test_bounds_are_above_the_scores_and_near(power):
    P, y = make(30, 1100, 4, seed=3, dtype=np.float64)
    P = P**power / (P**power).sum(-1, keepdims=True)
    running = running_module.RunningNLL(Ballots(P.astype(np.float32), y))
    bounds = screens.Bounds(running.true)
    for step in range(1, 12):
        over = bounds._bounds(running.sum, step) - running.scores(np.arange(30))
        assert over.min() >= 0
        if power == 0.2:  # x is small
            assert over.max() < 0.02
        running.add(step % 4)


def test_numba_is_loaded_for_large_pools_alone(monkeypatch):
    monkeypatch.delitem(sys.modules, "lrensemble.selection.compiled", raising=False)
    true = np.full((2, 3), 0.5)
    assert isinstance(screens.make_screen(true), screens.Bounds)
    monkeypatch.setattr(screens, "_WORTH_COMPILED", 6)
    assert isinstance(screens.make_screen(true), SCREENS[-1])
    monkeypatch.setattr(screens.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "lrensemble.selection.compiled", raising=False)
    assert isinstance(screens.make_screen(true), screens.Bounds)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_extreme_probabilities(objective, screen):
    """Zeros and ones, and probabilities that float32 barely knows."""
    rng = np.random.default_rng(3)
    P = np.exp(rng.normal(size=(8, 200, 4)) * 30)
    P = (P / P.sum(-1, keepdims=True)).astype(np.float32)
    y = rng.integers(0, 4, 200)
    with screened_by(screen):
        assert picks(Greedy(objective=objective).fit(P, y)) == plain_way(P, y, objective)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("options", [{"size": 3}, {"replacement": False}, {"size": 2, "replacement": False}])
def test_options_equal_the_plain_loop(objective, options):
    for seed in range(3):
        P, y = make(8, 80, seed=seed)
        selector = Greedy(objective=objective, steps=15, **options).fit(P, y)
        assert picks(selector) == plain_way(P, y, objective, steps=15, **options)
        best = max(range(len(selector.trajectory_)), key=lambda i: (selector.trajectory_[i].score, -i))
        np.testing.assert_array_equal(selector.weights_, selector.trajectory_[best].weights)
        if picks(selector)[0] >= 0:
            counts = np.bincount(picks(selector)[: best + 1], minlength=8)
            np.testing.assert_allclose(selector.weights_, counts / counts.sum())


@pytest.mark.parametrize("vote", ["soft", "plurality", "borda"])
@pytest.mark.parametrize("memory", [2**30, 40_000, 4_000])
def test_right_rows_in_little_memory(vote, memory):
    """Also where the differences of only some pairs, or of none, fit into memory."""
    P, y = make(9, 300, 6, quality=0.7)
    ballots = Ballots(P, y, vote=vote, memory=memory)
    running = RunningAccuracy(ballots)
    total = np.zeros(P.shape[1:])
    for pick in (0, 3, 3, 5, 1, 8, 0, 2, 7, 7, 4, 6):
        expected = [((total + ballots.member(m)).argmax(-1) == y).sum() for m in range(9)]
        np.testing.assert_array_equal(running.right(), expected)
        running.add(pick)
        total += ballots.member(pick)


@pytest.fixture(scope="module")
def hard_votes():
    """Labels by 24 small trees and SVMs, each from some rows and pixels of the digits: one-hot, on 450 rows twice."""
    from sklearn.datasets import load_digits
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(y))
    train, rest = order[:897], order[897:]
    predicted = []
    for i in range(24):
        rows, pixels = rng.choice(train, 450), rng.choice(64, 24, replace=False)
        model = DecisionTreeClassifier(random_state=i) if i % 3 else SVC(gamma=10.0 ** -rng.uniform(2, 4))
        predicted.append(model.fit(X[rows][:, pixels], y[rows]).predict(X[rest][:, pixels]))
    return np.eye(10, dtype=np.float32)[np.array(predicted)], y[rest]


@pytest.mark.parametrize("vote", ["plurality", "soft", "majority"])
def test_hard_votes_get_more_than_one_member(hard_votes, vote):
    """Two hard votes are no better than the better one, but three are."""
    P, y = hard_votes[0][:, :450], hard_votes[1][:450]

    def right(selector):
        return (selector.predict(P) == y).sum()

    single, top = TopK(size=1, objective="accuracy").fit(P, y), TopK(objective="accuracy").fit(P, y)
    greedy = Greedy("accuracy", vote=vote).fit(P, y)
    assert len(greedy.members_) > 4
    assert right(greedy) > right(top) > right(single) + 5
    for size in (3, 4):
        small = Greedy("accuracy", vote=vote, size=size).fit(P, y)
        assert right(small) >= right(BruteForce("accuracy", size=size).fit(P, y))
        assert len(small.members_) <= size
    front = Pareto(objective="accuracy", vote=vote).fit(P, y)
    assert np.all(np.diff([step.score for step in front.trajectory_]) > 0)
    assert front.front_costs_[0] == 1
    assert front.trajectory_[-1].score * 450 > right(top) - 1
    assert front.trajectory_[-1].size > 2
    limited = Pareto(objective="accuracy", vote=vote, size=5).fit(P, y)
    assert 2 < limited.trajectory_[-1].size <= 5


def test_sorted_initialisation():
    P, y = make(8, 80)
    ranked = np.argsort(-Ballots(P, y).singles("nll"), kind="stable")
    selector = Greedy(initial=3, steps=5).fit(P, y)
    np.testing.assert_allclose(selector.trajectory_[0].weights, np.isin(np.arange(8), ranked[:3]) / 3)
    assert len(selector.trajectory_) == 6
    np.testing.assert_allclose(
        Greedy(initial="best", steps=5).fit(P, y).trajectory_[0].weights, TopK().fit(P, y).weights_
    )
    # The first addition is the best there is.
    scores = [plain_score(3 * selector.trajectory_[0].weights + np.eye(8)[m], P, y, "nll") for m in range(8)]
    assert selector.trajectory_[1].member == int(np.argmax(scores))


def test_bags():
    P, y = make(10, 80)
    selector = Greedy(bags=4, bag_share=0.5, seed=3, steps=10).fit(P, y)
    rng = np.random.default_rng(3)
    expected = np.zeros(10)
    for _ in range(4):
        bag = np.sort(rng.choice(10, 5, replace=False))
        expected[bag] += Greedy(steps=10).fit(P[bag], y).weights_ / 4
    np.testing.assert_allclose(selector.weights_, expected)
    assert len(selector.trajectory_) == 4
    assert selector.trajectory_[-1].score == pytest.approx(plain_score(expected, P, y, "nll"), rel=1e-6)
    assert selector.teams_tried_ == 4 * 10 * 5


def test_time_limit(monkeypatch):
    P, y = make()
    clock = iter(range(1000))
    monkeypatch.setattr(base_module.time, "monotonic", lambda: next(clock))
    selector = Greedy(time_limit=3).fit(P, y)
    assert selector.stopped_ == "time limit of 3 s after 3 of 40 steps"
    assert picks(selector) == plain_way(P, y, "nll", steps=3)
    bagged = Greedy(time_limit=1e-9, bags=5).fit(P, y)
    assert bagged.stopped_ == "time limit of 1e-09 s after 1 of 5 bags"
    assert len(bagged.members_) == 1
    assert Greedy().fit(P, y).stopped_ == ""


@settings(max_examples=25)
@given(st.sampled_from(OBJECTIVES), st.integers(0, 1000))
def test_the_order_of_the_members_does_not_matter(objective, seed):
    P, y = make(7, 61, seed=seed, dtype=np.float64)
    order = np.random.default_rng(seed).permutation(7)
    first = Greedy(objective=objective, steps=10).fit(P, y)
    second = Greedy(objective=objective, steps=10).fit(P[order], y)
    np.testing.assert_allclose(second.weights_, first.weights_[order])


@settings(max_examples=25)
@given(st.sampled_from(OBJECTIVES), st.integers(0, 1000))
@example("accuracy", 323)  # starts again from the two best, of which one was the copy of the other
def test_a_duplicate_changes_nothing(objective, seed):
    P, y = make(5, 40, seed=seed)
    selector = Greedy(objective=objective, steps=10).fit(np.concatenate([P, P]), y)
    np.testing.assert_array_equal(selector.weights_[5:], 0)
    np.testing.assert_allclose(selector.weights_[:5], Greedy(objective=objective, steps=10).fit(P, y).weights_)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps 0"),
        ({"initial": 7}, "initial 7 is not possible: 0 to 6 members, or 'best'"),
        ({"initial": 3, "size": 2}, "initial 3 is not possible: 0 to 2"),
        ({"bags": 3, "bag_share": 0}, "share 0"),
        ({"bags": 3, "size": 2}, "size and bags do not go together"),
        ({"time_limit": 0}, "time_limit 0"),
        ({"vote": "sfot"}, "did you mean 'soft'"),
    ],
)
def test_errors(options, message):
    with pytest.raises(UserError, match=message):
        Greedy(**options).fit(*make())
