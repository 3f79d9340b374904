"""The algebra: clocks and budgets of inner policies, pieces, repeats, points, and search spaces over them."""

from __future__ import annotations

import numpy as np
import pytest

from lrensemble import Policy, UserError, parse_policies
from lrensemble.policies import Space


def bound(text: str, epoch: int = 10, total: int = 1000) -> Policy:
    return Policy.parse(text).bind(steps_per_epoch=epoch, total_steps=total)


def test_a_share_inside_a_warm_up_is_of_what_is_left():
    policy = bound("WARMUP(POLY(k0=0.1, p=1, l=100%), l=20%)")
    assert [policy(t) for t in (0, 100, 200, 600, 1000)] == pytest.approx([0, 0.05, 0.1, 0.05, 0])


def test_global_clock_and_budget():
    policy = bound("WARMUP(POLY(k0=0.1, p=1, l=100%), l=20%, clock=global)")
    assert [policy(t) for t in (200, 600)] == pytest.approx([0.08, 0.04])


def test_pieces_have_their_own_clocks_and_budgets():
    policy = bound("SEQ([POLY(k0=0.1, p=1, l=100%), POLY(k0=0.2, p=1, l=100%)], at=[40%])")
    assert [policy(t) for t in (0, 200, 399, 400, 700)] == pytest.approx([0.1, 0.05, 0.1 / 400, 0.2, 0.1])
    whole = bound("SEQ([POLY(k0=0.1, p=1, l=100%), POLY(k0=0.2, p=1, l=100%)], at=[40%], clock=global)")
    assert [whole(t) for t in (200, 400, 700)] == pytest.approx([0.08, 0.12, 0.06])


def test_bound_and_unbound_mix():
    policy = bound("SEQ([STEP(k0=0.1, gamma=0.5, l=100), FIX(0.01)], at=[50e])")
    assert [policy(t) for t in (99, 100, 499, 500)] == pytest.approx([0.1, 0.05, 0.1 * 0.5**4, 0.01])


def test_homogeneous_and_heterogeneous_nest():
    text = "SEQ(of=[TRI(k0=0.1, k1=0.01, l=5e), WARMUP(then=COS(k0=0.2, l=100%), l=5%)], at=[30%])"
    assert str(Policy.parse(text)) == text
    policy = bound(text)
    assert policy(50) == pytest.approx(0.1)
    assert policy(300) == pytest.approx(0.0)
    assert policy(335) == pytest.approx(0.2)


def test_scale_clip_and_floor():
    assert bound("SCALE(FIX(0.1), by=0.5, plus=0.01)")(3) == pytest.approx(0.06)
    assert bound("SCALE(FIX(0.1), by=-1)")(3) == 0.0
    clipped = bound("CLIP(POLY(k0=0.1, p=1, l=100%), low=0.02, high=0.08)")
    assert [clipped(t) for t in (0, 500, 990)] == pytest.approx([0.08, 0.05, 0.02])


def test_repeat_grows_exactly_at_its_boundaries():
    policy = bound("REPEAT(POLY(k0=1, p=1, l=100%), l=10, grow=3, decay=0.5)")
    for i, start in enumerate([0, 10, 40, 130]):
        assert policy(start) == pytest.approx(0.5**i)
        assert policy(start + 5 * 3**i) == pytest.approx(0.5**i * 0.5)
    steps = np.arange(400)
    np.testing.assert_allclose(policy(steps), [policy(int(t)) for t in steps], rtol=1e-12)


def test_repeat_of_a_length_starts_over():
    policy = bound("REPEAT(WARMUP(FIX(0.1), l=50%), l=4e)")
    assert [policy(t) for t in (0, 10, 20, 39, 40, 50)] == pytest.approx([0, 0.05, 0.1, 0.1, 0, 0.05])


def test_points_replay_a_trace():
    trace = [0.1, 0.3, 0.2, 0.25]
    text = f"POINTS(at=[0,10,20,30], k=[{','.join(map(str, trace))}])"
    policy = Policy.parse(text)
    assert [policy(t) for t in (0, 5, 10, 20, 30, 99)] == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.25, 0.25])
    np.testing.assert_allclose(policy(np.arange(50)), [policy(t) for t in range(50)], rtol=1e-12)
    held = Policy.parse(text.replace("])", "], between=hold)"))
    assert [held(t) for t in (0, 9, 10, 29, 30)] == [0.1, 0.1, 0.3, 0.2, 0.25]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SEQ([FIX(0.1), FIX(0.2)], at=[1,2])", "2 policies have 1 boundaries"),
        ("SEQ([FIX(0.1), FIX(0.2), FIX(0.3)], at=[2,1])", "ascending"),
        ("SEQ([FIX(0.1), 0.2], at=[2])", "of = "),
        ("WARMUP(0.1, l=3)", "then = 0.1 is not possible: it must be a policy"),
        ("WARMUP(FIX(0.1), l=3, shape=sine)", "shape = sine is not possible: .*linear"),
        ("WARMUP(FIX(0.1), l=3, shape=liner)", "did you mean 'linear'"),
        ("WARMUP(FIXX(0.1), l=3)", "did you mean 'FIX'"),
        ("WARMUP(FIX(k0=-1), l=3)", "FIX: k0 = -1"),
        ("CLIP(FIX(0.1), low=2, high=1)", "low = 2.0 is above high = 1.0"),
        ("POINTS(at=[1,2], k=[1])", "2 places `at`, but 1 values"),
        ("WSD(0.1, warmup=50%, decay=60%)", "50% \\+ 60% is longer than l = 100%"),
        ("cosin(0.1)", "did you mean 'COSINE'"),
        ("cosine(0.1, warmpup=3)", "did you mean 'warmup'"),
    ],
)
def test_errors(text, message):
    with pytest.raises(UserError, match=message):
        parse_policies(text)


def test_boundaries_of_mixed_units_that_cross():
    policy = Policy.parse("SEQ([FIX(0.1), FIX(0.2), FIX(0.3)], at=[50e, 10%])")
    with pytest.raises(UserError, match="do not ascend"):
        policy.bind(steps_per_epoch=10, total_steps=1000)


def test_grids_reach_into_inner_policies():
    texts = [str(p) for p in parse_policies("WARMUP(COS(k0=[0.1,0.2], l=100%), l=[1e,2e])")]
    assert texts == [f"WARMUP(then=COS(k0={k}, l=100%), l={length})" for k in (0.1, 0.2) for length in ("1e", "2e")]
    assert len(parse_policies("WARMUP([FIX(0.1), COS(k0=[0.1,0.2], l=100%)], l=1e)")) == 3
    assert len(parse_policies("SEQ([FIX(k0=[1,2]), FIX(k0=[3,4,5])], at=[5e])")) == 6


def test_ranges_are_spaces():
    space = Space.parse("WARMUP(COS(k0=log(1e-4, 1e-1), l=100%), l=uniform(1e, 5e), shape=[linear, cos])")
    assert set(space.axes) == {"then.k0", "l", "shape"}
    drawn = space.sample(400, seed=1)
    assert drawn == space.sample(400, seed=1) != space.sample(400, seed=2)
    rates = np.array([p["then"]["k0"] for p in drawn])
    assert 1e-4 <= rates.min() < 2e-4 < 5e-2 < rates.max() <= 1e-1
    assert 0.4 < np.mean(rates < 10**-2.5) < 0.6  # even in the logarithm
    assert {p["l"].unit for p in drawn} == {"e"}
    assert {p["shape"] for p in drawn} == {"linear", "cos"}
    assert space.policy({"then.k0": 0.05, "l": "2e", "shape": "cos"}) == Policy.parse(
        "WARMUP(COS(k0=0.05, l=100%), l=2e, shape=cos)"
    )
    with pytest.raises(UserError, match=r"then.k0=log\(0.0001, 0.1\) is a range"):
        space.grid()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FIX(k0=log(0, 1))", "must start above 0"),
        ("FIX(k0=log(1, 0.1))", "the first end must be below the second"),
        ("COS(0.1, l=uniform(1e, 50%))", "the same unit"),
        ("FIX(k0=log(1))", "',' expected"),
    ],
)
def test_impossible_ranges(text, message):
    with pytest.raises(UserError, match=message):
        Space.parse(text)


@pytest.mark.parametrize("grow", [1 + 1e-12, 1 + 1e-9, 1.0])
def test_very_many_rounds_need_no_memory(grow):
    policy = Policy.parse(f"REPEAT(COS(k0=0.1, l=100%), l=1, grow={grow!r}, decay=0.9)").bind(
        steps_per_epoch=10, total_steps=10**12
    )
    steps = np.array([0, 5, 10, 10**11])
    assert policy(steps) == pytest.approx([policy(int(step)) for step in steps])
