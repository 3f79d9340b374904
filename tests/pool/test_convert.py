"""Predictions of any framework become probabilities, or a line that says why not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lrensemble import UserError
from lrensemble.pool.convert import as_probabilities, find_kind

SHAPES = st.tuples(st.integers(1, 6), st.integers(2, 5))


def logits_of(low: float, high: float):
    return SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(low, high)))


@given(logits_of(-1e6, 1e6))
def test_logits_become_their_softmax(logits):
    probabilities = as_probabilities(logits, *logits.shape, kind="logits")
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    exact = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, exact, atol=1e-6)


@given(logits_of(-20, 20), st.sampled_from([np.float16, np.float32, np.float64]))
def test_probabilities_are_found_and_stay(logits, dtype):
    exact = as_probabilities(logits, *logits.shape, kind="logits").astype(dtype)
    assert find_kind(exact) == "probabilities"
    again = as_probabilities(exact, *exact.shape)
    assert again.dtype == (np.float16 if dtype == np.float16 else np.float32)
    np.testing.assert_array_equal(again, exact)


@given(logits_of(-20, 20).filter(lambda x: (x < 0).any()))
def test_a_negative_number_makes_logits(logits):
    assert find_kind(logits) == "logits"


@given(st.lists(st.integers(0, 4), min_size=1), st.sampled_from([np.uint8, np.int64, np.float32]))
def test_labels_become_one_hot(labels, dtype):
    column = np.array(labels, dtype=dtype)
    for array in (column, column[:, None], labels):
        one_hot = as_probabilities(array, len(labels), 5)
        assert (one_hot.argmax(1) == labels).all()
        assert (one_hot.sum(1) == 1).all()


def test_float16_logits_are_not_summed_in_float16():
    logits = np.full((2, 1000), 100, dtype=np.float16)  # 1e5 is more than float16 holds
    np.testing.assert_allclose(as_probabilities(logits, 2, 1000), 1e-3, rtol=1e-3)


def test_huge_logits_do_not_overflow():
    np.testing.assert_array_equal(as_probabilities([[1e300, -1e300, 0.0]], 1, 3), [[1, 0, 0]])


def test_masked_logits():
    """Minus infinity is how an impossible class is written."""
    np.testing.assert_allclose(as_probabilities([[-np.inf, -1.0, -1.0], [1.0, 0.0, -np.inf]], 2, 3)[0], [0, 0.5, 0.5])


@pytest.mark.parametrize("kind", ["auto", "logits", "probabilities"])
def test_what_is_not_finite_stays_so(kind):
    for bad in ([np.nan, np.nan], [np.inf, 1.0]):
        assert not np.isfinite(as_probabilities([[0.5, 0.5], bad], 2, 2, kind)[1]).all()


@pytest.mark.parametrize(
    ("predictions", "kind", "message"),
    [
        (np.zeros((3, 2)), "auto", r"file: shape \(3, 2\) does not fit, \(2, 2\) probabilities or logits or \(2,\)"),
        (np.zeros((2, 3)), "auto", r"shape \(2, 3\)"),
        (np.zeros((2, 2, 1)), "auto", r"shape \(2, 2, 1\)"),
        (np.float32(1), "auto", r"shape \(\)"),
        ([[0.5, 0.5], [0.5]], "auto", "file: no array of numbers"),
        (np.array([["a", "b"], ["c", "d"]]), "auto", "<U1 is not a type of numbers"),
        (np.array([[1j, 0], [1, 0]]), "auto", "complex128 is not a type of numbers"),
        (np.array([[0.5, 0.5], [0.2, 0.2]]), "probabilities", "row 1 has a sum of 0.4 and a lowest value of 0.2"),
        (np.array([[1.5, -0.5], [0.5, 0.5]]), "probabilities", "row 0 has a sum of 1 and a lowest value of -0.5"),
        (np.array([[True, True], [True, False]]), "probabilities", "row 0 has a sum of 2"),
        (np.array([[0.5, 0.5], [0.9, 0.9]]), "auto", "say kind 'logits', or let every row of probabilities sum to 1"),
        ([0, 2], "auto", "labels from 0 to 2, but the pool has classes 0 to 1"),
        ([0, -1], "labels", "labels from -1 to 0"),
        ([0.5, 1], "auto", "labels are whole numbers, this has 0.5"),
        ([np.nan, 1], "auto", "labels are whole numbers, this has nan"),
        ([0.5, 1], "probabilities", r"one number a row is no probabilities.*1 - p and p"),
        (np.zeros((2, 2)), "labels", "labels are one number a row, this has 2 columns"),
        (np.zeros((2, 2)), "logit", "unknown kind of predictions 'logit': did you mean 'logits'"),
    ],
)
def test_what_cannot_be_predictions(predictions, kind, message):
    with pytest.raises(UserError, match=message):
        as_probabilities(predictions, 2, 2, kind, "file")
