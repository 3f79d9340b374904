"""The line search against quadratics whose best LR is known, and its interval against noise of known variance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrensemble.policies.control import Line
from lrensemble.policies.linesearch import CAP, capped, fit, line_search


class Quadratic:
    """L(w) = curvature / 2 |w|^2 where its gradient is 1 long; a batch adds normal noise to the gradient."""

    def __init__(self, curvature: float, noise: float = 0.0, seed: int = 0, dim: int = 50) -> None:
        self.curvature, self.noise, self.seed, self.dim = curvature, noise, seed, dim

    def along(self, lrs, draw):
        rng = np.random.default_rng([self.seed, draw])
        w = np.full(self.dim, 1 / self.curvature / math.sqrt(self.dim))
        update = self.curvature * w + self.noise * rng.normal(size=self.dim) / math.sqrt(self.dim)
        other = self.noise * rng.normal(size=self.dim) / math.sqrt(self.dim)

        before = self.curvature / 2 * w @ w + other @ w
        slope, bend = (self.curvature * w + other) @ update, self.curvature / 2 * update @ update
        return Line(before, [bend * lr**2 - slope * lr for lr in lrs], 1.0, 0.0)


@given(st.floats(-9, 9))
def test_it_finds_one_over_the_curvature(log_curvature):
    curvature = math.exp(log_curvature)
    found = line_search(Quadratic(curvature), draws=2)
    assert found.lr == pytest.approx(1 / curvature, rel=1e-6)
    assert found.low == pytest.approx(found.high, rel=1e-6) and not found.is_doubtful


def test_its_interval_covers():
    """1 / curvature times the share of the signal in a noisy update's squared length is the best LR of such updates."""
    noise = 1.0
    best = 1 / 3 / (1 + noise**2)
    fits = [line_search(Quadratic(3.0, noise, seed), draws=4) for seed in range(1000)]
    found = [one for one in fits if one.lr is not None]
    assert len(found) > 900
    assert np.mean([one.low <= best <= one.high for one in found]) >= 0.93


def test_a_first_draw_that_rises_does_not_decide():
    """Noise of one pair of batches is often larger than what their gradients share: others say where to look."""

    class Unlucky(Quadratic):
        def along(self, lrs, draw):
            line = super().along(lrs, draw)
            return line if draw >= 2 else Line(line.before, [abs(change) for change in line.differences], 1.0, 0.0)

    found = line_search(Unlucky(3.0), draws=4, most=32)
    assert found.lr == pytest.approx(1 / 3, rel=0.5) and found.draws >= 4

    class Flat(Quadratic):
        def along(self, lrs, draw):
            return Line(2.0, [lr + 1e-7 * (draw % 2 - 0.5) for lr in lrs], 1.0, 0.0)  # it rises, but for rounding

    found = line_search(Flat(1.0), draws=4, most=32)
    assert found.lr is None and min(found.lrs) > 2.0**-25


def test_a_loss_that_does_not_fall_is_no_estimate():
    lrs = [0.5, 1.0, 2.0]
    assert fit(lrs, np.array([[0.1, 0.2, 0.4], [0.1, 0.3, 0.5]])) == (None, 0.0, math.inf)  # rises
    assert fit(lrs, np.zeros((4, 3)))[0] is None  # flat
    assert fit(lrs, np.array([[-0.1, -0.2, -0.4]] * 2))[0] is None  # lowest at the end
    valley = np.array([[-0.1, -0.2, -0.1]] * 4)
    assert fit(lrs, valley)[0] is not None
    noise = np.array([[0, 0.6, 0], [0, -0.6, 0], [0, 0.4, 0], [0, -0.4, 0]])
    assert fit(lrs, valley + noise)[0] is None  # one standard error below 0
    assert fit([lr * 1e6 for lr in lrs], valley * 1e-9)[0] == pytest.approx(
        fit(lrs, valley)[0] * 1e6
    )  # no absolute size
    assert fit(lrs, valley[:1])[1:] == (0.0, math.inf)  # one draw has no interval


def test_what_explodes_does_not_decide():
    line = Line(2.0, [-1.0, math.inf, math.nan, 1e30, 3.0], 1.0, 0.0)
    assert capped(line).tolist() == [-1.0, 2 * CAP, 2 * CAP, 2 * CAP, 3.0]
