"""The sweep of a range test: where it ends and what it suggests, against curves and quadratics that are known."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrensemble import Policy, UserError
from lrensemble.policies import parse_schedule
from lrensemble.policies.sweep import LRSweep, RangeTest, _middle_of_fall, sweep_curve

LRS = np.geomspace(1e-5, 10, 200)
CENTRE = 0.01


def sigmoid(lrs=LRS, began=2.3, fall=1.8, width=4.0):
    """A loss that falls around `CENTRE`, as a function of log LR."""
    return began - fall / (1 + np.exp(-width * np.log10(lrs / CENTRE)))


def read(losses, lrs=LRS):
    return sweep_curve(lrs, [losses[0], *losses])


def sweep(text="SWEEP(l=200)"):
    made = parse_schedule(text).bind(steps_per_epoch=20, total_steps=200).controller()
    assert isinstance(made, LRSweep)
    return made


def drive(controller, loss_of):
    """Steps until it is over; `loss_of(lr)` makes a step and returns the loss before it."""
    for step in itertools.count():
        if controller.is_over:
            return step
        controller.observe(step, float(loss_of(controller.lr(step))), None)
    raise AssertionError


@pytest.mark.parametrize("curvature", [3.0, 40.0])
@pytest.mark.parametrize("shape", ["exp", "linear"])
def test_the_loss_of_a_quadratic_rises_from_two_over_its_curvature_on(curvature, shape):
    controller, x = sweep(f"SWEEP(l=200, shape={shape})"), [1.0]

    def step(lr):
        loss = curvature * x[0] ** 2 / 2
        x[0] -= lr * curvature * x[0]
        return loss

    made = drive(controller, step)
    curve = controller.curve
    last = int(np.argmin(curve.loss))  # the last LR whose step made the loss smaller
    assert curve.lr[last] <= 2 / curvature < curve.lr[last + 1]
    assert made < 201  # it explodes long before LR 10
    assert controller.lr(made) == 0.0


def test_lrs_are_those_of_the_policy():
    controller = sweep("SWEEP(k0=1e-4, k1=1, l=50%)")
    assert [controller.lr(t) for t in range(100)] == Policy.parse("RANGE(k0=1e-4, k1=1, l=100, shape=exp)")(
        np.arange(100)
    ).tolist()
    assert sweep("SWEEP(k0=1, k1=3, l=100, shape=linear)").lr(50) == pytest.approx(2)
    assert drive(controller, lambda lr: 1.0) == 101  # the loss that the last LR led to is seen


def test_the_slope_is_per_log_lr():
    """Lightning #21141: by linear LR the steepest point lies far below."""
    found = read(sigmoid()).suggestions["steepest"]
    assert found == pytest.approx(CENTRE, rel=0.08)
    assert LRS[np.argmin(np.gradient(sigmoid(), LRS))] < CENTRE / 2
    linear = np.linspace(1e-3, 0.05, 400)
    assert read(sigmoid(linear), linear).suggestions["steepest"] == pytest.approx(CENTRE, rel=0.3)


def test_minimum_valley_and_range():
    loss = sigmoid() + 0.5 * np.maximum(np.log10(LRS / 0.3), 0) ** 2
    curve = read(loss)
    assert curve.suggestions["minimum / 10"] == pytest.approx(LRS[np.argmin(loss)] / 10, rel=0.3)
    assert 1e-4 < curve.suggestions["valley"] < CENTRE
    fallen, bottom = loss[0] - 0.25 * (loss[0] - loss.min()), np.argmin(loss)
    assert curve.low == pytest.approx(LRS[np.argmax(loss <= fallen)], rel=0.3)
    risen = loss.min() + 0.1 * (loss[0] - loss.min())
    assert curve.high == pytest.approx(LRS[bottom + np.argmax(loss[bottom:] > risen)], rel=0.3)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8))
def test_the_longest_fall_is_the_longest(values):
    loss = np.array(values, dtype=float)
    falls = [
        chosen
        for size in range(1, len(loss) + 1)
        for chosen in itertools.combinations(range(len(loss)), size)
        if all(loss[a] > loss[b] for a, b in itertools.pairwise(chosen))
    ]
    longest = max(map(len, falls))
    middle = longest - 1 - longest // 2
    assert any(len(fall) == longest and fall[middle] == _middle_of_fall(loss) for fall in falls)


@pytest.mark.parametrize("end", [1e30, 1e300, math.inf, math.nan])
def test_an_explosion_does_not_reach_back(end):
    loss = sigmoid()
    loss[160:] = end
    assert read(loss).suggestions["steepest"] == pytest.approx(read(sigmoid()).suggestions["steepest"], rel=0.1)


def test_single_nans_are_left_out_and_three_in_a_row_end_it():
    losses = iter([2.0, 1.9, math.nan, 1.8, math.inf, math.nan, 1.7, *[math.nan] * 9])
    assert drive(sweep(), lambda lr: next(losses)) == 10
    holes = sigmoid()
    holes[::17] = math.nan
    assert read(holes).suggestions["steepest"] == pytest.approx(CENTRE, rel=0.15)


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([math.nan] * 3, "the loss is finite after 0 steps only"),
        ([2.3], "the loss is finite after 0 steps only"),
        ([2.3, *np.linspace(2.4, 9, 40)], "the loss rises from the first LR on: begin below 1e-05"),
        ([2.3] * 201, "the loss rises from the first|does not fall by more than its noise"),
    ],
)
def test_without_an_answer_there_is_a_reason_and_never_none(losses, reason):
    """Lightning #13844: a suggestion of None crashed whoever used it."""
    curve = sweep_curve(LRS, losses)
    test = RangeTest.of([curve, curve])
    assert test.suggestions == {} and 0 < test.low < test.high
    with pytest.raises(UserError, match=reason):
        _ = test.lr


@pytest.mark.parametrize(
    ("draw", "wrong"), [(lambda rng, n: rng.normal(size=n), 10), (lambda rng, n: rng.standard_t(3, size=n), 25)]
)
def test_noise_suggests_nothing_and_hides_little(draw, wrong):
    rng = np.random.default_rng(0)
    assert sum(bool(read(2.3 + 0.2 * draw(rng, 200)).suggestions) for _ in range(200)) <= wrong
    found = [read(sigmoid(fall=1.0) + 0.2 * draw(rng, 200)).suggestions.get("steepest", math.nan) for _ in range(40)]
    decades = np.abs(np.log10(np.array(found) / CENTRE))
    assert abs(np.log10(np.nanmedian(found) / CENTRE)) < 0.1 and np.mean(decades < 0.35) > 0.7


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (1e6, 0.0), (1.0, -5.0)])
def test_any_scale_and_sign_of_the_loss(scale, shift):
    """A loss near zero or below is no explosion: four times the lowest would be one."""
    loss = scale * sigmoid() + shift
    rng = np.random.default_rng(1)
    noisy = iter([loss[0], *(loss + 0.01 * scale * rng.normal(size=200))])
    assert drive(sweep(), lambda lr: next(noisy)) == 201
    assert read(loss).suggestions["steepest"] == pytest.approx(CENTRE, rel=0.08)
    down = iter(np.append(np.geomspace(2.3, 1e-9, 201), 0))
    assert drive(sweep(), lambda lr: next(down)) == 201


@pytest.mark.parametrize("cut", [1, 19, 20, 21, 100, 190])
def test_a_restored_sweep_has_the_same_answer(cut):
    """Lightning #21030: the suggestion was lost where a state was restored."""
    losses = [2.3, *sigmoid() + 0.05 * np.sin(np.arange(200))]
    whole, first = sweep(), sweep()
    for step, loss in enumerate(losses):
        whole.observe(step, loss, None)
        if step < cut:
            first.observe(step, loss, None)
    second = sweep()
    second.load(json.loads(json.dumps(first.state())))
    for step in range(cut, len(losses)):
        assert second.lr(step) == first.policy(step)
        second.observe(step, losses[step], None)
    assert second.curve == whole.curve and second.is_over and whole.curve.suggestions
    assert not first.is_over and len(first.known["losses"]) == cut  # a state is a copy


def test_sweeps_together():
    shifted = [read(sigmoid(LRS * factor)) for factor in (0.5, 1, 2)]
    test = RangeTest.of(shifted)
    own = [curve.suggestions["steepest"] for curve in shifted]
    found = test.suggestions["steepest"]
    assert test.lr == sorted(curve.suggestions["middle"] for curve in shifted)[1]
    assert (found.low, found.high, found.n) == (min(own), max(own), 3)
    assert found.lr == sorted(own)[1]
    assert RangeTest.of(shifted[:2]).suggestions["steepest"].lr == pytest.approx(math.sqrt(own[0] * own[1]))
    nothing = read(np.full(200, 2.3))
    assert RangeTest.of([shifted[0], nothing]).suggestions["steepest"].n == 1
    assert not RangeTest.of([shifted[0], nothing, nothing]).suggestions


@pytest.mark.parametrize("text", ["SWEEP(k0=1, k1=0.1, l=200)", "SWEEP(l=5)"])
def test_impossible_sweeps(text):
    with pytest.raises(UserError, match=r"a sweep from LR .* is not possible: it goes upwards, in at least 10 steps"):
        parse_schedule(text).controller()
