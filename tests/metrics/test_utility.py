"""Top-k accuracy, confidence, calibration, classes and members against scikit-learn, torchmetrics and hand counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from torchmetrics.classification import MulticlassCalibrationError

from lrensemble import UserError, metrics


def predicted(seed: int = 0, rows: int = 400, classes: int = 8, sharp: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)) * sharp
    logits[np.arange(rows), labels] += 1.5
    p = np.exp(logits)
    return (p / p.sum(1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_top_k_equals_scikit_learn(k):
    p, y = predicted()
    assert metrics.top_k_rows(p, y, k).mean() == sk.top_k_accuracy_score(y, p, k=k, labels=np.arange(8))
    assert metrics.top_k_rows(np.stack([p, p]), y, k).shape == (2, 400)


def test_top_k_ties_go_to_the_lower_class():
    p = np.full((3, 4), 0.25)
    assert metrics.top_k_rows(p, np.array([0, 1, 2]), 2).tolist() == [1, 1, 0]
    np.testing.assert_array_equal(metrics.top_k_rows(p, np.array([0, 1, 2]), 1), metrics.correct_rows(p, [0, 1, 2]))


def test_confidence_by_hand():
    """Right: rows 0 (0.9, class 0), 1 (0.7, class 0), 3 (0.6, class 1); class 2 has none and is skipped."""
    p = np.array([[0.9, 0.1, 0.0], [0.7, 0.2, 0.1], [0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.5, 0.3, 0.2]])
    found = metrics.confidence(p, np.array([0, 0, 1, 1, 2]))
    assert found.ac == pytest.approx((0.9 + 0.7 + 0.6) / 3)
    assert found.cv == pytest.approx(np.std([0.9, 0.7, 0.6]))
    assert found.cvac == pytest.approx(np.std([0.8, 0.6]))
    assert metrics.confidence(p, np.array([1, 1, 2, 2, 2])) == (None, None, None)


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 6))
def test_confidence_equals_a_loop(seed, rows, classes):
    p, y = predicted(seed, rows, classes)
    right = p.argmax(1) == y
    top = p.max(1).astype(float)[right]
    found = metrics.confidence(p, y)
    if not len(top):
        assert found == (None, None, None)
        return
    means = [top[y[right] == c].mean() for c in range(classes) if (y[right] == c).any()]
    assert found == pytest.approx((top.mean(), top.std(), np.std(means)), abs=1e-9)


def test_ece_equals_torchmetrics():
    p, y = predicted(sharp=3.0)
    oracle = MulticlassCalibrationError(8, n_bins=15, norm="l1")(torch.from_numpy(p), torch.from_numpy(y))
    assert metrics.expected_calibration_error(p, y) == pytest.approx(float(oracle), abs=1e-6)


def test_adaptive_ece_by_hand_and_in_any_order_of_rows():
    """With different confidences and rows a multiple of the bins: slices of the sorted rows."""
    p, y = predicted(rows=300)
    confidence, right = p.max(1).astype(float), p.argmax(1) == y
    order = np.argsort(confidence)
    slices = np.split(order, 15)
    expected = np.mean([abs(right[rows].mean() - confidence[rows].mean()) for rows in slices])
    assert metrics.adaptive_calibration_error(p, y) == pytest.approx(expected, rel=1e-9)
    assert set(metrics.reliability(p, y, equal_mass=True).counts) == {20}
    certain = np.tile([1.0, 0.0], (50, 1))  # all the same confidence: one bin, whatever the order
    wrong = np.arange(50) % 5 == 0
    for labels in (wrong.astype(int), np.sort(wrong.astype(int))):
        assert metrics.adaptive_calibration_error(certain, labels) == pytest.approx(0.2)


@given(st.integers(0, 10_000), st.integers(1, 40), st.booleans())
def test_bins_hold_every_row_once(seed, rows, equal_mass):
    p, y = predicted(seed, rows)
    found = metrics.reliability(np.round(p, 1), y, equal_mass=equal_mass)
    assert found.counts.sum() == rows
    assert found.counts @ found.accuracy == pytest.approx((np.round(p, 1).argmax(1) == y).sum())
    assert np.all(np.diff(found.confidence) > 0)


def test_classes_equal_scikit_learn_and_counting():
    p, y = predicted()
    y = np.where(y == 7, 0, y)  # class 7 has no rows
    found = metrics.per_class(p, y)
    choice = p.argmax(1)
    for c in range(7):
        assert found.support[c] == (y == c).sum()
        assert found.recall[c] == pytest.approx((choice[y == c] == c).mean())
        assert found.precision[c] == pytest.approx((y[choice == c] == c).mean())
    assert np.isnan(found.recall[7])
    matrix = metrics.confusion(p, y)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(y, choice, labels=range(8)))
    assert matrix.trace() / len(y) == pytest.approx((choice == y).mean())
    i, j, count = metrics.most_confused(matrix)[0]
    assert i != j
    assert count == max(matrix[a, b] for a, b in itertools.permutations(range(8), 2)) == matrix[i, j]
    assert metrics.most_confused(np.eye(3, dtype=int)) == []


def test_members_by_hand_and_by_pairs():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 50)
    P = rng.dirichlet(np.ones(3), (4, 50))
    found = metrics.member_scores(P, y)
    choice = P.argmax(-1)
    assert found.mean_accuracy == pytest.approx((choice == y).mean())
    assert found.best_accuracy == (choice == y).mean(1).max()
    assert found.oracle_accuracy == (choice == y).any(0).mean()
    pairs = [(choice[a] != choice[b]).mean() for a, b in itertools.combinations(range(4), 2)]
    assert found.disagreement == pytest.approx(np.mean(pairs))
    assert metrics.member_scores(P[:1], y).disagreement is None
    assert metrics.member_scores([P[0], P[0]], y).disagreement == 0


def test_utility_of_few_classes_one_class_and_one_row():
    p, y = predicted(classes=5)
    assert metrics.utility(p, y)["top5_accuracy"] is None
    assert metrics.utility(*predicted(classes=6))["top5_accuracy"] == pytest.approx(
        sk.top_k_accuracy_score(*reversed(predicted(classes=6)), k=5, labels=range(6))
    )
    one = metrics.utility(np.ones((4, 1), dtype=np.float32), np.zeros(4, dtype=int))
    assert (one["accuracy"], one["nll"], one["ece"], one["ac"], one["cvac"]) == (1, 0, 0, 1, 0)
    p, y = predicted(rows=1)
    assert metrics.utility(p, y)["adaptive_ece"] == pytest.approx(metrics.utility(p, y)["ece"])


def test_a_thousand_classes():
    p, y = predicted(rows=2000, classes=1000, sharp=1.0)
    found = metrics.utility(p, y)
    assert found["top5_accuracy"] == sk.top_k_accuracy_score(y, p, k=5, labels=np.arange(1000))
    assert metrics.confusion(p, y).shape == (1000, 1000)


def test_nan_is_named():
    p, y = predicted()
    p[17, 3] = np.nan
    with pytest.raises(UserError, match="are not finite: row 17 of 400 holds NaN"):
        metrics.utility(p, y)


def test_auroc_equals_scikit_learn_and_its_interval_the_bootstrap():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=300).round(1), rng.normal(size=200).round(1) + 1
    found = metrics.auroc(inside, outside)
    kinds = np.repeat([0, 1], [300, 200])
    assert found.value == pytest.approx(sk.roc_auc_score(kinds, np.concatenate([inside, outside])))
    oracle = stats.bootstrap(
        (inside, outside),
        lambda a, b: sk.roc_auc_score(kinds, np.concatenate([a, b])),
        vectorized=False,
        n_resamples=500,
        method="percentile",
        rng=rng,
    ).confidence_interval
    assert found.low == pytest.approx(oracle.low, abs=0.008)
    assert found.high == pytest.approx(oracle.high, abs=0.008)
    assert metrics.auroc(np.zeros(3), np.ones(3)) == (1, 1, 1)


def test_uncertainty():
    p, _ = predicted(rows=20)
    found = metrics.uncertainty(p)
    np.testing.assert_allclose(found["max_probability"], -p.max(1))
    np.testing.assert_allclose(found["entropy"], [stats.entropy(row) for row in p], rtol=1e-5)
    assert metrics.uncertainty(np.array([[1.0, 0.0]]))["entropy"] == 0
