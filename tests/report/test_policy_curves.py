"""Few points, and nothing lost."""

from __future__ import annotations

import numpy as np
import pytest

from lrensemble.policies import Policy, parse_policies
from lrensemble.report.policy_curves import BUCKETS, DENSE, POINTS, Curve, policy_curves, sparkline

LIMIT = BUCKETS * POINTS + 2


def curve_of(text: str, steps_per_epoch: int = 100, total_steps: int = 10_000) -> Curve:
    (curve,) = policy_curves(parse_policies(text), steps_per_epoch, total_steps)
    return curve


def test_a_short_budget_is_kept_whole():
    curve = curve_of("TRI(k0=0.1, l=7)", total_steps=50)
    assert curve.label == "TRI(k0=0.1, l=7)"
    assert curve.steps.tolist() == list(range(50))
    assert curve.lr.tolist() == Policy.parse("TRI(k0=0.1, l=7)")(np.arange(50)).tolist()


def test_labels_are_the_unbound_texts_and_epochs_follow_from_the_steps():
    curve = curve_of("COS(k0=0.1, l=100%)", steps_per_epoch=50)
    assert curve.label == "COS(k0=0.1, l=100%)"
    assert curve.epochs[-1] == 9_999 / 50


@pytest.mark.parametrize("total_steps", [4_001, 78_200, 1_000_003])
@pytest.mark.parametrize(
    "text",
    [
        "NSTEP(k0=0.1, gamma=0.3, l=[1234, 4000, 4001])",
        "TRI2(k0=0.1, k1=0.01, l=7%)",
        "SINEXP(k0=0.1, k1=0.001, l=3e, gamma=0.99, per=1e)",
        "COS(k0=0.1, l=13)",
    ],
)
def test_no_extreme_and_no_jump_is_lost(text, total_steps):
    curve = curve_of(text, total_steps=total_steps)
    steps = np.arange(total_steps)
    lr = Policy.parse(text).bind(steps_per_epoch=100, total_steps=total_steps)(steps)
    assert len(curve.steps) <= LIMIT
    assert (np.diff(curve.steps) > 0).all()
    assert (curve.steps[0], curve.steps[-1]) == (0, total_steps - 1)
    assert np.array_equal(curve.lr, lr[curve.steps])
    near = total_steps // BUCKETS + 1
    for bucket in np.array_split(steps, BUCKETS // 2):  # the lowest and the highest of every stretch, or higher nearby
        inside = curve.lr[(curve.steps >= bucket[0] - near) & (curve.steps <= bucket[-1] + near)]
        assert inside.min() <= lr[bucket].min()
        assert inside.max() >= lr[bucket].max()
    if text.startswith("NSTEP"):
        assert {1233, 1234} <= set(curve.steps)  # upright, not slanted


def test_long_budgets_are_sampled_without_falling_into_step_with_a_period():
    total_steps = 1000 * DENSE
    curve = curve_of("TRI(k0=1, l=500)", total_steps=total_steps)  # one period in the distance of two samples
    assert len(curve.steps) <= LIMIT
    assert curve.steps[-1] == total_steps - 1
    assert curve.lr.min() < 0.01
    assert curve.lr.max() > 0.99


def test_one_step():
    curve = curve_of("FIX(k0=0.1)", total_steps=1)
    assert (curve.steps.tolist(), curve.lr.tolist(), curve.columns(60).tolist()) == ([0], [0.1], [0.1])


def test_columns_are_evenly_spaced_in_time():
    """The points of a curve are not: more of them are kept where it changes."""
    columns = curve_of("NSTEP(k0=0.8, gamma=0.5, l=[5000])").columns(10)
    assert columns.tolist() == [0.8] * 5 + [0.4] * 5
    assert len(curve_of("FIX(k0=0.1)", total_steps=7).columns(60)) == 7


@pytest.mark.parametrize(
    ("values", "width", "blocks"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([1, 1], 4, "████"),
        ([0, 0], 3, "▁▁▁"),
        ([0, 1], 4, "▁▁██"),
        ([1e-300, 2e-300], 2, "▅█"),
    ],
)
def test_sparkline(values, width, blocks):
    assert sparkline(values, width) == blocks
