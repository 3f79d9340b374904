"""The replay: strategies see what is trained and nothing else, and a pool with a known answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lrensemble.metrics import summary
from lrensemble.selection import make_selector
from scripts.replay import replay as room
from scripts.replay.replay import known, replay, scores
from scripts.replay.tpe import tpe
from tests.recommend.pools import synthetic

HONEST = [room.random_order, room.grid_order, room.expected_best, room.expected_gain, tpe]


@pytest.mark.parametrize("strategy", HONEST, ids=lambda s: s.__name__)
def test_no_peeking(strategy):
    """Whatever untrained members would predict, the choice is the same; what trained ones predict matters to some."""
    bench = synthetic(seed=2, diverged=3)
    trained = [2, 9, 28, 16]  # 28 diverged
    rng = np.random.default_rng(0)
    others = [i for i in range(len(bench)) if i not in trained]
    val = np.array(bench.val)
    val[others] = rng.dirichlet(np.ones(4), val[others].shape[:2])
    test = rng.dirichlet(np.ones(4), np.array(bench.test).shape[:2])
    complete = bench.complete.copy()
    complete[others] = rng.random(len(others)) < 0.5
    rest = {f: getattr(bench, f) for f in ("features", "policies", "val_labels", "test_labels", "expected_seconds")}
    changed = room.Bench.of(val=val, test=test, complete=complete, seconds=rng.random(len(bench)), **rest)
    for seed in range(3):
        assert strategy(known(bench, trained), seed) == strategy(known(changed, trained), seed)


def test_clairvoyants_do_peek():
    bench = synthetic(seed=2)
    best = int(bench.right.mean(1).argmax())
    now = known(bench, [i for i in (0, 1, 2) if i != best])
    assert now.candidates[room.clairvoyant_best(bench)(now, 0)] == best
    team = known(bench, [0, 1, 2])
    choice = team.candidates[room.clairvoyant_gain(bench)(team, 0)]
    assert abs(bench.features[choice, 0] + 1.5) < 0.5


@pytest.mark.parametrize("strategy", HONEST, ids=lambda s: s.__name__)
def test_an_order_is_each_member_once_from_the_same_start(strategy):
    bench = synthetic(seed=0, members=12, rows=60, diverged=2)
    order = replay(strategy, bench, budget=99, seed=5)
    assert sorted(order) == list(range(12))
    assert order[: room.START] == replay(room.random_order, bench, budget=12, seed=5)[: room.START]
    assert replay(strategy, bench, budget=6, seed=5) == order[:6]


def test_ours_finds_the_good_members_sooner_than_random():
    bench = synthetic(seed=3)
    budgets = [6, 9]
    found = {
        strategy: np.mean(
            [
                [score.val_nll for score in scores(replay(strategy, bench, budget=9, seed=s), bench, budgets)]
                for s in range(8)
            ],
            axis=0,
        )
        for strategy in (room.random_order, room.expected_gain)
    }
    assert (found[room.expected_gain] < found[room.random_order]).all()


def test_scores_are_those_of_the_greedy_team():
    bench = synthetic(seed=0, diverged=2)
    order = [29, 28, 12, 3, 20, 15]
    nothing, score = scores(order, bench, [2, 6])
    assert nothing is None
    good = [12, 3, 20, 15]
    team = make_selector("greedy").fit(np.array(bench.val)[good], bench.val_labels)
    val = summary(team.predict_proba(np.array(bench.val)[good]), bench.val_labels)
    test = summary(team.predict_proba(np.array(bench.test)[good]), bench.test_labels)
    assert (score.val_nll, score.val_accuracy) == pytest.approx((val["nll"], val["accuracy"]))
    assert (score.test_nll, score.test_accuracy) == pytest.approx((test["nll"], test["accuracy"]))
    assert score.seconds == 6  # the diverged ones cost, too


def test_test_rows_never_choose():
    bench = synthetic(seed=0)
    other = replace(bench, test=np.flip(np.array(bench.test), -1))
    assert replay(room.expected_gain, bench, budget=6, seed=0) == replay(room.expected_gain, other, budget=6, seed=0)
