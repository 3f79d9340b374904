"""Temperatures against SciPy's and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss

from lrensemble.selection import Greedy, fit_temperature
from lrensemble.selection.votes import HIGHEST, LOWEST, scaled
from tests.selection.oracles import make


def _nll(inverse, p, y):
    return log_loss(y, softmax(inverse * np.log(p), axis=1))


def test_equal_to_scipys_minimum():
    for seed in range(5):
        P, y = make(members=1, rows=300, seed=seed, dtype=np.float64)
        p = softmax(np.log(P[0]) * (0.3 + seed), axis=1)  # over- and underconfident
        oracle = minimize_scalar(_nll, args=(p, y), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10})
        assert fit_temperature(p, y) == pytest.approx(1 / oracle.x, rel=1e-5)


def test_equal_to_scikit_learns():
    calibration = pytest.importorskip("sklearn.calibration")
    if not hasattr(calibration, "_TemperatureScaling"):
        pytest.skip("scikit-learn before 1.8")
    P, y = make(members=1, rows=400, dtype=np.float64)
    logits = 2.5 * np.log(P[0])
    oracle = calibration._TemperatureScaling().fit(logits, y)
    assert fit_temperature(softmax(logits, axis=1), y) == pytest.approx(1 / oracle.beta_, rel=1e-3)


def test_bounds():
    y = np.array([0, 1])
    assert fit_temperature(np.array([[0.9, 0.1], [0.2, 0.8]]), y) == LOWEST  # never wrong
    assert fit_temperature(np.array([[0.1, 0.9], [0.8, 0.2]]), y) == HIGHEST  # always wrong
    assert fit_temperature(np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32), y) == LOWEST


def test_a_temperature_changes_no_arg_max_and_1_nothing():
    P, _ = make()
    np.testing.assert_array_equal(scaled(P, 3.0).argmax(-1), P.argmax(-1))
    assert scaled(P, 1.0) is P
    assert scaled(P, 3.0).dtype == P.dtype


def test_selection_with_temperatures():
    P, y = make(rows=200)
    sharp = softmax(np.log(P) * np.array([0.2, 5, 1, 3, 0.5, 1])[:, None, None], axis=-1)
    selector = Greedy(temperature=True).fit(sharp, y)
    expected = [fit_temperature(p, y) for p in sharp]
    np.testing.assert_allclose(selector.temperatures_, expected)
    scaled_members = np.stack([scaled(p, t) for p, t in zip(sharp, expected, strict=True)])
    np.testing.assert_allclose(selector.weights_, Greedy().fit(scaled_members, y).weights_)
    vote = np.average(scaled_members.astype(float), axis=0, weights=selector.weights_)
    np.testing.assert_allclose(selector.predict_proba(sharp), vote, rtol=1e-6)
    # The confidence of the members is undone.
    np.testing.assert_allclose(
        selector.temperatures_ / Greedy(temperature=True).fit(P, y).temperatures_, [0.2, 5, 1, 3, 0.5, 1], rtol=1e-3
    )
