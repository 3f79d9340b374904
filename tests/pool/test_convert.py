"""Predictions of any framework become probabilities, or a line that says why not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lrensemble import UserError
from lrensemble.pool.convert import convert
from lrensemble.pool.labels import class_numbers

SHAPES = st.tuples(st.integers(1, 6), st.integers(2, 5))


def as_probabilities(predictions, rows: int, classes: int, kind: str = "auto", where: str = "predictions"):
    """The predictions of one split as (N, C) probabilities."""
    return convert({where: predictions}, {where: rows}, classes, {where: kind}).probabilities[where]


def logits_of(low: float, high: float):
    return SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(low, high)))


@given(logits_of(-1e6, 1e6))
def test_logits_become_their_softmax(logits):
    probabilities = as_probabilities(logits, *logits.shape, kind="logits")
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    exact = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, exact, atol=1e-6)


def kind_of(array, kind: str = "auto") -> str:
    array = np.asarray(array)
    return convert({"val": array}, {"val": len(array)}, array.shape[1], {"val": kind}).kinds["val"]


@given(logits_of(-20, 20), st.sampled_from([np.float16, np.float32, np.float64]))
def test_probabilities_are_found_and_stay(logits, dtype):
    exact = as_probabilities(logits, *logits.shape, kind="logits").astype(dtype)
    assert kind_of(exact) == "probabilities"
    again = as_probabilities(exact, *exact.shape)
    assert again.dtype == (np.float16 if dtype == np.float16 else np.float32)
    np.testing.assert_array_equal(again, exact)


@given(logits_of(-20, 20), st.sampled_from([2.0, 16.0, 100.0, 0.25]), st.sampled_from([0.0, 1e-9]))
def test_another_unit_is_divided_out_or_asked_for(logits, unit, noise):
    exact = as_probabilities(logits, *logits.shape, kind="logits").astype(np.float64)
    scaled = exact * unit + noise * np.sin(np.arange(exact.size)).reshape(exact.shape)
    np.testing.assert_allclose(as_probabilities(scaled, *exact.shape, kind="probabilities"), exact, atol=1e-6)
    try:
        found = as_probabilities(scaled, *exact.shape)
    except UserError as error:
        assert "--kind probabilities or --kind logits says it" in str(error)
    else:
        np.testing.assert_allclose(found, exact, atol=1e-6)


@given(logits_of(-20, 20).filter(lambda x: (x < -0.1).any(1).all() and np.mod(x, 1).any()))
def test_a_negative_number_in_every_row_makes_logits(logits):
    assert kind_of(logits) == "logits"


def rows_of_probabilities(n: int) -> np.ndarray:
    return as_probabilities(np.random.default_rng(0).normal(size=(n, 3)), n, 3, "logits").astype(float)


def test_a_minority_of_rows_never_decides():
    """One number below 0 made 8 rows of probabilities flat logits."""
    values = rows_of_probabilities(8)
    values[6] = [1.000000000001, 0, -1e-12]
    found = as_probabilities(values, 8, 3)
    np.testing.assert_array_equal(found[6], [1, 0, 0])
    np.testing.assert_allclose(found, np.clip(values, 0, 1), atol=1e-7)
    for bad in ([0.5, 0.7, -0.2], [2.0, 1.0, 0.5], [-3.0, 1.0, 2.5]):
        values[6] = bad
        with pytest.raises(UserError, match=r"row 6 has a sum .* but 7 of 8 rows are probabilities: mend it"):
            as_probabilities(values, 8, 3)
        assert kind_of(values, "logits") == "logits"
        with pytest.raises(UserError, match=r"row 6 .*probabilities are >= 0 and sum to 1"):
            as_probabilities(values, 8, 3, "probabilities")
    logits = np.random.default_rng(1).normal(size=(8, 3)) * 4
    logits[2] = [0.2, 0.3, 0.5]
    assert kind_of(logits) == "logits"
    logits[3:7] = np.abs(logits[3:7]) % 0.3
    with pytest.raises(UserError, match=r"of 8 rows within \[0, 1\]: say kind 'logits'"):
        as_probabilities(logits, 8, 3)


def test_splits_are_decided_together():
    val, test = rows_of_probabilities(6), np.random.default_rng(1).normal(size=(9, 3)) * 3

    def both(val, test, kind="auto"):
        given_ = {"val": val, "test": test}
        rows = {split: len(array) for split, array in given_.items()}
        return convert(given_, rows, 3, dict.fromkeys(given_, kind))

    with pytest.raises(
        UserError, match=r"val looks like probabilities and test looks like logits: .* --kind says which"
    ):
        both(val, test)
    assert both(val, test, "logits").kinds == {"val": "logits", "test": "logits"}
    with pytest.raises(UserError, match="sum to 1 in val, 100 in test: bring them to one unit"):
        both(val, 100 * rows_of_probabilities(9))
    # Two rows that sum to 100 say nothing alone, but the other split does.
    few = both(100 * val[:2], 100 * val)
    np.testing.assert_allclose(few.probabilities["val"], val[:2], atol=1e-6)
    assert few.notes == ("val and test: rows sum to 100: divided by that, as probabilities",)
    saturated = convert(
        {"val": [0.0, 1.0], "test": [0.2, 0.7]}, {"val": 2, "test": 2}, 2, {"val": "auto", "test": "auto"}
    )
    assert set(saturated.kinds.values()) == {"probabilities"}
    np.testing.assert_array_equal(saturated.probabilities["val"], [[1, 0], [0, 1]])


def test_whole_percentages_are_asked_for():
    values = np.array([[70.0, 20, 11], [33, 33, 33], [10, 80, 10], [5, 5, 90]])
    with pytest.raises(UserError, match="all nearly 100: rounded percentages or logits"):
        as_probabilities(values, 4, 3)
    exact = values / values.sum(1, keepdims=True)
    np.testing.assert_allclose(as_probabilities(values, 4, 3, "probabilities"), exact, atol=1e-7)


def test_large_positive_logits_are_no_probabilities():
    """Sums of 1,000 similarities are within 1 % of each other."""
    logits = 20 + 3 * np.random.default_rng(0).normal(size=(50, 1000))
    assert np.ptp(logits.sum(1)) < 0.03 * logits.sum(1).mean()
    assert kind_of(logits) == "logits"


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_column_of_two_classes(shape):
    p = np.array([0.2, 0.8, 0.1, 1.0])
    found = as_probabilities(p.reshape(shape), 4, 2)
    np.testing.assert_allclose(found, np.stack([1 - p, p], 1), atol=1e-7)
    z = np.log(p[:3] / (1 - p[:3]))
    np.testing.assert_allclose(as_probabilities(z.reshape(shape), 3, 2, "logits"), found[:3], atol=1e-6)
    with pytest.raises(UserError, match=r"3 of 3 not whole .* --kind probabilities or --kind logits"):
        as_probabilities(z.reshape(shape), 3, 2)


def test_labels_by_name():
    names = ("cat", "dog", "owl")
    assert class_numbers(["owl", "cat"], names, "file").tolist() == [2, 0]
    with pytest.raises(UserError, match="file: label 'dgo' is no class: did you mean 'dog'"):
        class_numbers(["dgo"], names, "file")
    assert class_numbers(["True", "False"], ("0", "1"), "file").tolist() == [1, 0]
    assert class_numbers(np.array([7, 3]), ("3", "5", "7"), "file").tolist() == [2, 0]
    assert class_numbers(np.array([0.0, 2]), ("3", "5", "7"), "file").tolist() == [0, 2]
    assert class_numbers(np.array([1, 2]), ("1", "2", "3"), "file", named=True).tolist() == [0, 1]
    with pytest.raises(UserError, match=r"labels from 1 to 2 can be the names of the classes .1-3. or their numbers"):
        class_numbers(np.array([1, 2]), ("1", "2", "3"), "file")
    with pytest.raises(UserError, match="label 4 is no class: these are 3,5,7"):
        class_numbers(np.array([3, 4]), ("3", "5", "7"), "file")


@given(st.lists(st.integers(0, 4), min_size=1), st.sampled_from([np.uint8, np.int64, np.float32]))
def test_labels_become_one_hot(labels, dtype):
    column = np.array(labels, dtype=dtype)
    for array in (column, column[:, None], labels):
        one_hot = as_probabilities(array, len(labels), 5)
        assert (one_hot.argmax(1) == labels).all()
        assert (one_hot.sum(1) == 1).all()


def test_float16_logits_are_not_summed_in_float16():
    logits = np.full((2, 1000), 100, dtype=np.float16)  # 1e5 is more than float16 holds
    np.testing.assert_allclose(as_probabilities(logits, 2, 1000, "logits"), 1e-3, rtol=1e-3)


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
        (np.array([[0.2, 0.5], [0.9, 0.9]]), "auto", "say kind 'logits', or let every row of probabilities sum to 1"),
        (np.array([[3, 1], [2, 0]]), "auto", "all whole numbers: counts, decimal commas or logits"),
        (np.array([[3, 1], [1, 3]]), "auto", "every row sums to 4, but too few rows differ"),
        ([0, 2], "auto", "labels from 0 to 2, but the pool has classes 0 to 1"),
        ([0, -1], "labels", "a label of -1 .unlabelled.. is no class"),
        ([0.5, 1], "labels", "labels are whole numbers, this has 0.5"),
        ([np.nan, 1], "auto", "labels are whole numbers, this has nan"),
        ([0.5, 2], "probabilities", r"from 0.5 to 2, but probabilities of class 1 are within .0, 1."),
        (np.zeros((2, 2)), "labels", "labels are one number a row, this has 2 columns"),
        (np.zeros((2, 2)), "logit", "unknown kind of predictions 'logit': did you mean 'logits'"),
    ],
)
def test_what_cannot_be_predictions(predictions, kind, message):
    with pytest.raises(UserError, match=message):
        as_probabilities(predictions, 2, 2, kind, "file")


def test_how_far_from_1_rows_of_probabilities_may_sum():
    """1 %: what float16, or two digits, leave; wide of it a row is named."""
    p = rows_of_probabilities(8)
    for off in (-0.0099, 0.0099):
        np.testing.assert_allclose(as_probabilities(p * (1 + off * (np.arange(8) == 3))[:, None], 8, 3)[:3], p[:3])
    for off in (-0.0101, 0.0101):
        with pytest.raises(UserError, match="row 3 has a sum of"):
            as_probabilities(p * (1 + off * (np.arange(8) == 3))[:, None], 8, 3)
    splits = {"val": 100 * p, "test": 100.9 * p}
    rows, kinds = dict.fromkeys(splits, 8), dict.fromkeys(splits, "auto")
    assert convert(splits, rows, 3, kinds).kinds == dict.fromkeys(splits, "probabilities")
    with pytest.raises(UserError, match=r"sum to 100 in val, 101\.1 in test"):
        convert({**splits, "test": 101.1 * p}, rows, 3, kinds)
