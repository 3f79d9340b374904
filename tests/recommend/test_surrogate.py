"""Gaussian processes against scikit-learn's, and what the surrogate of members must know."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel

from lrensemble.recommend.features import NAMES, groups_of
from lrensemble.recommend.surrogate import fit_process, fit_surrogate, log_odds


def curves(levels):
    """Features of constant LRs."""
    x = np.zeros((len(levels), len(NAMES)))
    x[:, :3] = np.asarray(levels)[:, None]
    return x


def test_prediction_equals_scikit_learn():
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(12, len(NAMES))), rng.normal(size=(5, len(NAMES)))
    y = rng.normal(size=(12, 3))
    process = fit_process(x, y, 0.2)
    scales = np.empty(len(NAMES))
    for group, length in zip(groups_of(len(NAMES)), process.lengths, strict=True):
        scales[group] = length
    matern = (1 - process.noise) * Matern(scales, nu=1.5) + WhiteKernel(process.noise)
    peer = GaussianProcessRegressor(matern, optimizer=None).fit(x, y - process.mean)
    mean, sd = peer.predict(new, return_std=True)
    ours, variance = process.predict(new)
    np.testing.assert_allclose(ours, mean + process.mean, atol=1e-8)
    assert (variance >= sd[:, 0] ** 2 - 1e-9).all()  # beside it: the doubt of the estimated mean
    assert (variance < sd[:, 0] ** 2 + 1).all()


def test_noise_is_told_from_signal():
    rng = np.random.default_rng(0)
    x = curves(np.linspace(-3, 0, 40))
    smooth = np.sin(2 * x[:, :1]) * rng.normal(size=(1, 50))
    assert fit_process(x, smooth, 0.3).noise < 0.1
    assert fit_process(x, rng.normal(size=(40, 50)), 0.3).noise > 0.6


def test_quality_is_learned_and_both_ends_are_bad():
    rng = np.random.default_rng(0)
    levels = np.array([-2.5, -2.0, -1.5, -1.0])
    odds = (4 - 2 * np.abs(levels + 1.5))[:, None] + rng.normal(size=(4, 300))
    model = fit_surrogate(curves(levels), odds, 0.1)
    low, middle, high = model.draw(curves([-5.0, -1.5, 1.0]), 64, rng).mean((1, 2))
    assert middle == pytest.approx(4, abs=0.5)
    assert low < 0
    assert high < 0


def test_a_curve_far_from_all_is_less_certain():
    rng = np.random.default_rng(0)
    model = fit_surrogate(curves([-2.0, -1.9, -1.8]), rng.normal(2, 1, size=(3, 100)), 0.1)
    near, far = model.draw(curves([-1.85, 0.2]), 64, rng).mean(2).std(1)
    assert far > 2 * near


def test_log_odds():
    p = np.array([0.2, 0.5, 0.9])
    np.testing.assert_allclose(expit(log_odds(p)), p)
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()
