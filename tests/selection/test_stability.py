"""The one-standard-error rule, and selection repeated on other rows."""

from __future__ import annotations

import numpy as np
import pytest

from lrensemble import UserError
from lrensemble.selection import Ballots, Convex, Greedy, Random, Step, TopK, smallest_within_one_se, stability
from tests.selection.oracles import make, plain_score, plain_vote


@pytest.mark.parametrize("objective", ["nll", "accuracy"])
def test_one_standard_error_by_hand(objective):
    for seed in range(4):
        P, y = make(8, 150, seed=seed, dtype=np.float64)
        steps = TopK(objective=objective).fit(P, y).trajectory_
        rows = []
        for step in steps:
            p = plain_vote(step.weights, P)
            rows.append(np.log(p[np.arange(150), y]) if objective == "nll" else (p.argmax(1) == y).astype(float))
        best = int(np.argmax([row.mean() for row in rows]))
        error = rows[best].std(ddof=1) / np.sqrt(150)
        near = [rows[best].mean() - row.mean() <= error for row in rows]
        found = smallest_within_one_se(steps, Ballots(P, y), objective)
        assert np.count_nonzero(found) == near.index(True) + 1  # sizes 1, 2, ...


def test_one_se_in_selectors():
    P, y = make(8, 60)
    greedy, small = Greedy().fit(P, y), Greedy(one_se=True).fit(P, y)
    assert len(small.members_) < len(greedy.members_)
    assert small.teams_tried_ == greedy.teams_tried_
    assert len(TopK(one_se=True).fit(P, y).members_) <= len(TopK().fit(P, y).members_)
    with pytest.raises(UserError, match="needs teams of several sizes"):
        TopK(size=3, one_se=True).fit(P, y)


def test_one_se_takes_the_cheapest_where_costs_are_given():
    P, y = make(1, 50)
    twins = np.repeat(P, 2, axis=0)
    steps = [Step(np.array([1.0, 0.0]), 0.5), Step(np.array([0.0, 1.0]), 0.5)]
    found = smallest_within_one_se(steps, Ballots(twins, y), "nll", costs=np.array([3.0, 1.0]))
    np.testing.assert_array_equal(found, [0, 1])


def test_one_se_of_equal_sizes_takes_the_better_and_the_bound_is_within():
    P, y = make(4, 60, dtype=np.float64)
    ballots, single = Ballots(P, y), np.eye(4)
    pair = np.array([0.5, 0.5, 0, 0])
    error = ballots.standard_error(ballots.cast(pair), "nll")
    ties = [Step(single[0], -error / 2), Step(single[1], -error / 4), Step(single[2], -error / 4), Step(pair, 0.0)]
    np.testing.assert_array_equal(smallest_within_one_se(ties, ballots, "nll"), single[1])  # of equals the first
    bound = [Step(single[3], -error), Step(pair, 0.0)]
    np.testing.assert_array_equal(smallest_within_one_se(bound, ballots, "nll"), single[3])


def test_halves_by_hand():
    P, y = make(6, 101)
    found = stability(Greedy(steps=8), P, y, repeats=3, seed=5)
    rng = np.random.default_rng(5)
    halves = []
    for _ in range(2):
        order = rng.permutation(101)
        halves += [(order[:50], order[50:]), (order[50:], order[:50])]
    for i, (ours, others) in enumerate(halves[:3]):
        ours, others = np.sort(ours), np.sort(others)
        team = Greedy(steps=8).fit(P[:, ours], y[ours]).weights_
        assert found.inside[i] == pytest.approx(plain_score(team, P[:, ours], y[ours], "nll"), rel=1e-6)
        assert found.outside[i] == pytest.approx(plain_score(team, P[:, others], y[others], "nll"), rel=1e-6)
        best = np.eye(6)[np.argmax([plain_score(w, P[:, ours], y[ours], "nll") for w in np.eye(6)])]
        assert found.single_outside[i] == pytest.approx(plain_score(best, P[:, others], y[others], "nll"), rel=1e-6)
    assert found.optimism == pytest.approx((found.inside - found.outside).mean())
    assert found.promised_gain - found.gain == pytest.approx(
        found.optimism - (found.single_inside - found.single_outside).mean()
    )


def test_what_selection_cannot_know_is_optimism():
    """Members that are equally good: accuracy promises much that does not come, more so with more freedom."""
    P, y = make(30, 100, classes=4, quality=0)
    greedy = stability(Greedy(objective="accuracy"), P, y, repeats=10)
    assert greedy.optimism > 0.1
    assert greedy.promised_gain > greedy.gain + 0.05
    fixed = stability(Random(size=30), P, y, repeats=10)
    assert fixed.optimism == pytest.approx(0, abs=1e-12)  # every split is used both ways
    assert fixed.overlap == 1
    np.testing.assert_array_equal(fixed.frequency, 1)
    assert greedy.overlap < 0.5


def test_a_member_that_stands_out_is_chosen_always():
    P, y = make(6, 200)
    P[2] = 0.1 * P[2] + 0.9 * np.eye(3)[y]
    found = stability(Convex(), P, y, repeats=6)
    assert found.frequency[2] == 1
    assert len(found.inside) == 6


def test_temperatures_are_fitted_inside():
    P, y = make(4, 80)
    found = stability(Greedy(temperature=True, vote="logit", steps=5), P, y, repeats=2)
    order = np.random.default_rng(0).permutation(80)
    ours, others = np.sort(order[:40]), np.sort(order[40:])
    selector = Greedy(temperature=True, vote="logit", steps=5).fit(P[:, ours], y[ours])
    p = selector.predict_proba(P[:, others])
    assert found.outside[0] == pytest.approx(np.log(p[np.arange(40), y[others]]).mean())


def test_errors():
    P, y = make()
    with pytest.raises(UserError, match="repeats 0"):
        stability(Greedy(), P, y, repeats=0)
    with pytest.raises(UserError, match="2 rows or more"):
        stability(Greedy(), P[:, :1], y[:1])


def test_ties_of_the_one_standard_error_rule():
    """Of one size the better score, of equal scores the earlier; what is exactly one standard error worse is near."""
    y = np.zeros(4, dtype=int)
    p = np.array([[0.9, 0.1]] * 3 + [[0.1, 0.9]])  # 3 of 4 right: the standard error is 0.25
    ballots = Ballots(np.stack([p, p, p]), y)
    error = ballots.standard_error(ballots.cast(np.eye(3)[0]), "accuracy")
    assert error == np.std([1, 1, 1, 0], ddof=1) / 2 == 0.25

    def chosen(*steps: tuple[list[int], float]) -> list[int]:
        found = [Step(np.bincount(members, minlength=3) / len(members), score) for members, score in steps]
        return np.flatnonzero(smallest_within_one_se(found, ballots, "accuracy")).tolist()

    assert chosen(([0, 1], 0.75), ([0], 0.5), ([1], 0.6), ([2], 0.6)) == [1]
    assert chosen(([0, 1], 0.75), ([2], 0.5)) == [2]
    assert chosen(([0, 1], 0.75), ([2], 0.4999)) == [0, 1]
    assert chosen(([0, 1], 0.75), ([1, 2], 0.75)) == [0, 1]
