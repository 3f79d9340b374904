"""What selectors take and refuse, and pools that stay on disk."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from lrensemble import UserError
from lrensemble.pool import Predictions
from lrensemble.selection import SELECTORS, Ballots, Convex, Greedy, Random, TopK, make_selector, stability
from lrensemble.selection.base import Selector
from tests.selection.oracles import make, plain_greedy

MINE = ["best-single", "all", "top-k", "random", "greedy", "convex", "cma-es", "pareto"]


@pytest.mark.parametrize("name", MINE)
@pytest.mark.parametrize("shape", [(1, 20, 3), (3, 1, 3), (3, 20, 1), (1, 1, 1)])
def test_smallest_inputs(name, shape):
    P, y = make(*shape)
    selector = make_selector(name, generations=3).fit(P, y)
    assert selector.weights_.sum() == pytest.approx(1)
    np.testing.assert_allclose(selector.predict_proba(P).sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("name", MINE)
@pytest.mark.parametrize("vote", ["soft", "logit", "borda", "plurality"])
def test_identical_members(name, vote):
    P, y = make(1, 30)
    selector = make_selector(name, vote=vote, generations=3).fit(np.repeat(P, 4, axis=0), y)
    np.testing.assert_allclose(
        selector.predict_proba(np.repeat(P, 4, axis=0)), Ballots(P, y, vote=vote).cast(np.ones(1)), rtol=1e-6
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.5, 2.0])
@pytest.mark.parametrize("name", MINE)
def test_rows_that_are_no_probabilities(name, value):
    P, y = make()
    P[4, 17, 1] = value
    with pytest.raises(UserError, match=r"member 4, row 17: \[.*\] are not probabilities \(sum .*give the softmax"):
        make_selector(name).fit(P, y)


def test_rows_whose_sum_is_nearly_1_are_used_as_they_are():
    P, y = make(dtype=np.float64)
    P[2] *= 1.005
    selector = Greedy(size=1).fit(P[2:3], y)
    np.testing.assert_allclose(selector.predict_proba(P[2:3]), P[2])
    with pytest.raises(UserError, match=r"sum 1.02"):
        Greedy().fit(P * 1.02, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: np.where(y == 1, 3, y), "label 3 is out of range: the predictions have 3 classes, 0 to 2"),
        (lambda y: y - 1, "label -1 is out of range"),
        (lambda y: y.astype(float), "labels must be integers from 0 to 2, not float64"),
        (lambda y: y[:-1], r"not \(6, 60, 3\) and \(59,\)"),
        (lambda y: np.eye(3)[y], r"not \(6, 60, 3\) and \(60, 3\)"),
    ],
)
def test_labels_that_do_not_fit(change, message):
    P, y = make()
    with pytest.raises(UserError, match=message):
        Greedy().fit(P, change(y))


def test_no_members_and_no_rows():
    P, y = make()
    with pytest.raises(UserError, match="no members"):
        TopK().fit(P[:0], y)
    with pytest.raises(UserError, match="hold nothing"):
        TopK().fit(P[:, :0], y[:0])
    with pytest.raises(UserError, match="must be"):
        TopK().fit(P[0], y)


def test_lists_of_arrays_and_numbers():
    P, y = make()
    np.testing.assert_array_equal(Greedy().fit(list(P), list(y)).weights_, Greedy().fit(P, y).weights_)
    exact = np.eye(3, dtype=int)[P.argmax(-1)]
    np.testing.assert_array_equal(Greedy().fit(exact, y).weights_, Greedy().fit(exact.astype(float), y).weights_)


@pytest.fixture
def on_disk(tmp_path):
    def save(P):
        paths = []
        for i, p in enumerate(P):
            np.save(tmp_path / f"{i}.npy", p)
            paths.append(tmp_path / f"{i}.npy")
        return Predictions(paths, P.shape[1:])

    return save


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        (name, objective)
        for name in MINE
        for objective in ("nll", "accuracy")
        if (name, objective) != ("convex", "accuracy")
    ],
)
@pytest.mark.parametrize("vote", ["soft", "logit", "plurality"])
def test_from_disk_as_from_memory(on_disk, name, objective, vote):
    P, y = make(7, 90, 4)
    parameters = {"objective": objective, "vote": vote, "temperature": True, "generations": 3, "width": 3}
    expected = make_selector(name, **parameters).fit(P, y)
    found = make_selector(name, **parameters).fit(on_disk(P), y, memory=20_000)
    np.testing.assert_allclose(found.weights_, expected.weights_, atol=1e-9)
    np.testing.assert_allclose(found.predict_proba(on_disk(P)), expected.predict_proba(P), atol=1e-9)


def test_stability_from_disk(on_disk):
    P, y = make(5, 60)
    first, second = (stability(Greedy(steps=5), p, y, repeats=2) for p in (P, on_disk(P)))
    np.testing.assert_array_equal(first.outside, second.outside)


@pytest.mark.parametrize("objective", ["nll", "accuracy"])
def test_float16_is_exact(on_disk, objective):
    P, y = make(8, 200, 5, dtype=np.float16)
    for predictions in (P, on_disk(P)):
        selector = Greedy(objective=objective, steps=15).fit(predictions, y)
        assert [step.member for step in selector.trajectory_] == plain_greedy(P, y, objective, steps=15)


def test_mixed_precisions(on_disk, tmp_path):
    P, y = make(2, 30)
    np.save(tmp_path / "a.npy", P[0].astype(np.float16))
    np.save(tmp_path / "b.npy", P[1].astype(np.float64))
    mixed = Predictions([tmp_path / "a.npy", tmp_path / "b.npy"], (30, 3))
    assert mixed.dtype == np.asarray(mixed).dtype == np.float64
    assert mixed.nbytes == np.asarray(mixed).nbytes
    Convex().fit(mixed, y)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("greedy", {"objective": "accuracy", "steps": 5}),
        ("greedy", {"vote": "logit", "steps": 2}),
        ("top-k", {"objective": "accuracy"}),
        ("pareto", {"objective": "accuracy", "width": 2, "size": 2}),
    ],
)
def test_memory_stays_bounded(on_disk, name, parameters):
    P, y = make(100, 2000, 20, quality=2)  # 16 MB
    predictions = on_disk(P)
    del P
    limit = 4_000_000
    tracemalloc.start()
    make_selector(name, **parameters).fit(predictions, y, memory=limit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Beside the limit: arrays of members x rows (0.8 MB) and of rows x classes (0.3 MB as float64).
    assert peak < limit + 4_500_000


def test_what_does_not_fit_is_said(on_disk):
    class InMemory(Selector):
        def _select(self, P, y):
            assert isinstance(P, np.ndarray)
            return np.ones(len(P)), 1

    P, y = make()
    predictions = on_disk(P)
    InMemory().fit(predictions, y)
    InMemory().fit(P, y, memory=100)  # is there already
    with pytest.raises(UserError, match=r"needs all predictions in memory: 0\.0 GB, the limit is 0\.0 GB"):
        InMemory().fit(predictions, y, memory=100)


def test_all_of_mine_are_registered():
    assert set(MINE) <= set(SELECTORS)
    assert Random(size=2).fit(*make()).trajectory_ == []
