"""Scores against scikit-learn, SciPy and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, log_loss

from lrensemble import metrics


@pytest.fixture
def predicted():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    logits = rng.normal(size=(300, 4)) * 2
    logits[np.arange(300), labels] += 1.5
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True), labels


def test_equal_to_scikit_learn(predicted):
    p, y = predicted
    found = metrics.summary(p, y)
    assert found["accuracy"] == accuracy_score(y, p.argmax(1))
    assert found["nll"] == pytest.approx(log_loss(y, p), rel=1e-12)
    assert found["brier"] == pytest.approx(
        np.mean([((row - np.eye(4)[k]) ** 2).sum() for row, k in zip(p, y, strict=True)])
    )


def test_a_certain_error_is_finite():
    p = np.array([[1.0, 0.0]])
    assert metrics.nll_rows(p, np.array([1]))[0] == pytest.approx(log_loss([1], p, labels=[0, 1]))


def test_ece_by_hand(predicted):
    p, y = predicted
    confidence, right = p.max(1), p.argmax(1) == y
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.expected_calibration_error(p, y) == pytest.approx(expected, rel=1e-12)


def test_many_members_at_once(predicted):
    p, y = predicted
    stack = np.stack([p, p[:, ::-1]])
    for rule in (metrics.correct_rows, metrics.nll_rows, metrics.brier_rows):
        np.testing.assert_array_equal(rule(stack, y), [rule(member, y) for member in stack])


def test_bootstrap_against_scipy():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(2, 200))
    samples = metrics.bootstrap_means(rows, resamples=20_000)
    low, high = metrics.percentile_interval(samples[:, 0] - samples[:, 1])
    oracle = stats.bootstrap(
        (rows[0] - rows[1],), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    width = oracle.high - oracle.low
    assert low == pytest.approx(oracle.low, abs=0.03 * width)
    assert high == pytest.approx(oracle.high, abs=0.03 * width)


def test_bootstrap_is_paired_and_repeatable():
    rows = np.random.default_rng(3).normal(size=(1, 50))
    samples = metrics.bootstrap_means(np.concatenate([rows, rows + 1]))
    np.testing.assert_allclose(samples[:, 1] - samples[:, 0], 1.0)
    np.testing.assert_array_equal(samples, metrics.bootstrap_means(np.concatenate([rows, rows + 1])))


def test_bootstrap_in_chunks_equals_one_piece(monkeypatch):
    from lrensemble.metrics import significance

    rows = np.random.default_rng(4).normal(size=(2, 100))
    whole = metrics.bootstrap_means(rows, resamples=50)
    monkeypatch.setattr(significance, "CHUNK", 700)
    np.testing.assert_allclose(metrics.bootstrap_means(rows, resamples=50), whole, rtol=1e-12)


def test_a_confidence_on_an_edge_is_in_the_bin_below_it():
    """Bins are ((i - 1)/4, i/4]; the lowest has 0 too."""
    p = np.array(
        [[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0.5000001, 0.4999999, 0, 0], [0.75, 0.25, 0, 0], [1, 0, 0, 0]]
    )
    found = metrics.reliability(p, np.zeros(5, dtype=int), bins=4)
    np.testing.assert_array_equal(found.counts, [1, 1, 2, 1])
    np.testing.assert_allclose(found.confidence, [0.25, 0.5, 0.62500005, 1])
    with np.errstate(all="raise"):
        assert metrics.reliability(np.zeros((1, 4)), np.zeros(1, dtype=int), bins=4).counts.tolist() == [1]
    # Of equal mass: equal confidences share the lower of the bins that they could be in.
    same = metrics.reliability(p[[0, 1, 1, 1, 3, 4]], np.zeros(6, dtype=int), bins=3, equal_mass=True)
    np.testing.assert_array_equal(same.counts, [2 + 2, 2])


@pytest.mark.parametrize("rows", [7, 8, 9, 20])
def test_bins_of_equal_mass_are_those_of_numpy(rows):
    p = np.linspace(0.5, 1, rows)
    found = metrics.reliability(np.stack([p, 1 - p], 1), np.zeros(rows, dtype=int), bins=3, equal_mass=True)
    np.testing.assert_array_equal(found.counts, [len(part) for part in np.array_split(p, 3)])


def test_risk_and_coverage_of_ties_do_not_depend_on_the_order_of_the_rows():
    p = np.array([[0.9, 0.1], [0.7, 0.3], [0.7, 0.3], [0.3, 0.7], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 1, 1])
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 1, 0, 3]):
        coverage, risk = metrics.risk_coverage(p[order], labels[order])
        np.testing.assert_allclose(coverage, [0.2, 0.4, 0.6, 0.8, 1.0])
        np.testing.assert_allclose(risk, [0, 1 / 6, 2 / 9, 1 / 4, 2 / 5])


def test_risk_and_coverage_without_ties_are_means_over_the_surest_rows(predicted):
    p, labels = predicted
    order = np.argsort(-p.max(1))
    wrong = (p.argmax(1) != labels)[order]
    _, risk = metrics.risk_coverage(p, labels)
    np.testing.assert_allclose(risk, [wrong[: k + 1].mean() for k in range(len(wrong))])
