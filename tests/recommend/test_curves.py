"""The rule that gives runs up: curves with known ends, under LRs that jump."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrensemble.policies import Policy
from lrensemble.recommend.curves import (
    FEWEST,
    Backtest,
    LearningCurve,
    backtest,
    epoch_lrs,
    gives_up,
    is_hopeless,
    upper_bound,
)
from scripts.measure_verify import targets_between

EPOCHS, ROWS = 40, 2000
TIME = np.arange(1, EPOCHS + 1)


def curve(accuracy, policy: str = "FIX(0.1)") -> LearningCurve:
    return LearningCurve(np.asarray(accuracy, dtype=float), epoch_lrs(policy, 10, EPOCHS), ROWS)


@pytest.mark.parametrize("power", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("epoch", [10, 25, 40])
def test_a_power_law_that_gets_there_is_never_given_up(power, epoch):
    accuracy = 1 - 0.5 * TIME**-power
    target = accuracy[epoch - 1]
    assert curve(accuracy).reaches(target) == epoch
    assert gives_up(curve(accuracy), target) is None


def test_a_flat_curve_is_given_up_early_where_the_target_is_far():
    flat = curve(np.full(EPOCHS, 0.6))
    assert gives_up(flat, 0.9) == 8  # a fifth of the budget
    assert gives_up(flat, 0.63) > 30
    assert gives_up(flat, 0.6) is None


@pytest.mark.parametrize("policy", ["STEP(k0=0.1, gamma=0.1, l=50%)", "POLY(k0=0.1, p=1, l=100%)"])
def test_a_jump_when_the_lr_falls_is_waited_for(policy):
    """Flat at 85 %, and 88 % when the LR is low: under a fixed LR it would be given up by then."""
    accuracy = np.where(TIME > EPOCHS // 2, 0.88, 0.85)
    assert gives_up(curve(accuracy, policy), 0.88) is None
    assert upper_bound(curve(accuracy[:20], policy)) > upper_bound(curve(accuracy[:20])) + 0.005


def test_a_warm_up_has_done_little_of_the_work():
    start = np.full(8, 0.1)
    slow = "WARMUP(FIX(0.1), l=50%)"
    assert upper_bound(curve(start, slow)) > upper_bound(curve(start)) + 0.05


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=EPOCHS), st.sampled_from(["FIX(0)", "POLY(0.1, 1, 100%)", "FIX(1)"])
)
def test_the_bound_is_an_accuracy_not_below_the_best_seen(accuracy, policy):
    bound = upper_bound(curve(accuracy, policy))
    assert max(accuracy) - 1 / ROWS <= bound <= 1


def test_few_epochs_decide_nothing():
    assert not any(is_hopeless(curve(np.full(n, 0.1)), 0.9) for n in range(1, max(FEWEST, 8)))
    assert is_hopeless(curve(np.full(8, 0.1)), 0.9)
    assert not is_hopeless(curve([*np.full(9, 0.1), np.nan]), 0.9)


def test_backtest_counts_by_hand():
    late = np.where(TIME > 36, 0.95, 0.3)  # a jump that nothing announces
    curves = [curve(np.full(EPOCHS, 0.6)), curve(np.full(EPOCHS, 0.95)), curve(late)]
    assert backtest(curves, 0.95) == Backtest(runs=3, reached=2, wrong=1, saved=1 - 8 / EPOCHS)
    assert backtest(curves[:1], 0.6) == Backtest(runs=1, reached=1, wrong=0, saved=0.0)
    assert targets_between(curves, [0.0, 1.0]) == [0.6, 0.95]


def test_epoch_lrs_are_means_of_the_steps():
    bound = Policy.parse("TRI(k0=0.1, k1=0.01, l=3e)").bind(steps_per_epoch=7, total_steps=70)
    expected = [np.mean([bound(step) for step in range(7 * e, 7 * e + 7)]) for e in range(10)]
    np.testing.assert_allclose(epoch_lrs("TRI(k0=0.1, k1=0.01, l=3e)", 7, 10), expected)
