"""Metrics against golden values, definitions written out, scikit-learn, statsmodels, EnsembleBench, and properties."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from lrensemble import UserError
from lrensemble.diversity import (
    METRICS,
    SIX,
    all_masks,
    diversity,
    get_metric,
    members_of,
    pairwise,
    team_diversity,
    to_indicators,
)
from tests.diversity.data import make_classes, make_probabilities, naive

Y = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
TRIO = [[0, 1, 2, 0, 1, 2, 1, 2, 0, 1], [0, 1, 2, 0, 2, 0, 0, 1, 0, 1], [0, 1, 1, 2, 1, 2, 0, 0, 0, 2]]
GOLDEN = {
    "CK": 0.2445465,
    "QS": 0.3492063,
    "rho": 0.1916383,
    "BD": 0.4,
    "FK": 0.2398649,
    "KW": 0.1333333,
    "GD": 0.4615385,
    "E": 0.6,
    "DF": 7 / 30,
    "CF": 0.6875,
}
BENCH = json.loads((Path(__file__).parent / "ensemblebench.json").read_text())
PAIRWISE = [name for name, metric in METRICS.items() if metric.kind == "pairwise"]


@pytest.mark.parametrize("name", METRICS)
def test_golden_vector(name):
    assert diversity(TRIO, Y, metric=name) == pytest.approx(GOLDEN[name], abs=5e-8)


@pytest.mark.parametrize("name", METRICS)
def test_every_team_equals_the_definition(name):
    for seed in range(3):
        predicted, y = make_classes(members=5, rows=30, seed=seed)
        masks = all_masks(5)
        values = team_diversity(predicted, y, masks, [name])[name]
        expected = [naive(predicted[members_of(mask)], y, name) for mask in masks]
        np.testing.assert_allclose(values, expected, rtol=1e-13, atol=1e-15)
        by_indicator = team_diversity(predicted, y, to_indicators(masks, 5), [name])[name]
        np.testing.assert_array_equal(values, by_indicator)


def test_kappas_equal_scikit_learn_and_statsmodels():
    predicted, y = make_classes(members=6, rows=200, classes=7)
    matrix = pairwise(predicted, y, "CK")
    for i, j in itertools.combinations(range(6), 2):
        assert matrix[i, j] == pytest.approx(cohen_kappa_score(predicted[i], predicted[j]), rel=1e-12)
    for team in ([0, 1], [1, 3, 4], range(6)):
        expected = fleiss_kappa(aggregate_raters(predicted[list(team)].T)[0])
        assert diversity(predicted, y, team, "FK") == pytest.approx(expected, rel=1e-12)


def test_numbers_of_ensemblebench():
    """EnsembleBench 0.0.0.1 from PyPI, whose own orientation is "lower = more diverse" for its six."""
    predicted = np.array([list(map(int, row)) for row in BENCH["predictions"]])
    y = np.array(list(map(int, BENCH["labels"])))
    assert len(BENCH["teams"]) == 26
    for team, expected in BENCH["teams"].items():
        members = [int(m) for m in team.split(",")]
        for name in SIX:
            assert diversity(predicted, y, members, name, oriented=True) == pytest.approx(expected[name], rel=1e-12)
        for name in ("E", "rho"):
            assert diversity(predicted, y, members, name) == pytest.approx(expected[name], rel=1e-12)


@pytest.mark.parametrize("name", PAIRWISE)
def test_matrix_of_pairs(name):
    predicted, y = make_classes(members=5, rows=50)
    matrix = pairwise(predicted, y, name)
    np.testing.assert_array_equal(matrix, matrix.T)
    for i, j in itertools.combinations(range(5), 2):
        assert matrix[i, j] == pytest.approx(naive(predicted[[i, j]], y, name), rel=1e-13)
    own = {"CK": 1, "QS": 1, "rho": 1, "BD": 0, "DF": (predicted != y).mean(1)}[name]
    np.testing.assert_allclose(matrix.diagonal(), own)
    np.testing.assert_array_equal(pairwise(predicted, y, name, oriented=True), METRICS[name].orient(matrix))


def test_probabilities_tensors_and_other_names_of_classes():
    p, y = make_probabilities()
    expected = diversity(p.argmax(-1), y, metric="GD")
    assert diversity(p, y, metric="gd") == expected
    assert diversity(torch.as_tensor(p), torch.as_tensor(y), metric="GD") == expected
    names = np.array(["cat", "dog", "eel", "fox"])
    assert diversity(names[p.argmax(-1)], names[y], metric="GD") == expected
    assert diversity(p.argmax(-1) - 7, y - 7, metric="CK") == pytest.approx(diversity(p, y, metric="CK"))


def test_rows_in_slabs_give_the_same_counts(monkeypatch):
    predicted, y = make_classes(rows=101)
    before = team_diversity(predicted, y, all_masks(6))
    monkeypatch.setattr("lrensemble.diversity.counts._ROWS", 10)
    monkeypatch.setattr("lrensemble.diversity.lists._CHUNK", 100)
    after = team_diversity(predicted, y, all_masks(6))
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])


Pools = st.tuples(st.integers(1, 5), st.integers(1, 12)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.int64, shape, elements=st.integers(0, 2)),
        hnp.arrays(np.int64, shape[1], elements=st.integers(0, 2)),
    )
)


@given(Pools)
def test_any_data_gives_the_definition(pool):
    predicted, y = pool
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, metric in METRICS.items():
            value = diversity(predicted, y, metric=name)
            np.testing.assert_allclose(value, naive(predicted, y, name), rtol=1e-10, atol=1e-12)
            assert np.isnan(value) or metric.low - 1e-12 <= value <= metric.high + 1e-12


@given(Pools, st.randoms(use_true_random=False))
def test_invariances(pool, random):
    """Names of classes, order of members and order of rows do not matter."""
    predicted, y = pool
    names = np.array(random.sample(range(3), 3))
    members = random.sample(range(len(predicted)), len(predicted))
    rows = random.sample(range(len(y)), len(y))
    for name in METRICS:
        value = diversity(predicted, y, metric=name)
        for other in ((names[predicted], names[y]), (predicted[members], y), (predicted[:, rows], y[rows])):
            np.testing.assert_allclose(diversity(*other, metric=name), value, rtol=1e-12, atol=1e-14)


@given(Pools)
def test_known_relations(pool):
    predicted, y = pool
    size = len(predicted)
    value = {name: diversity(predicted, y, metric=name) for name in METRICS}
    np.testing.assert_allclose(value["KW"], value["BD"] * (size - 1) / (2 * size), atol=1e-15)
    if size == 2:
        np.testing.assert_allclose(value["E"], value["BD"])
        # For two: GD = 1 - DF / mean error; coincident failure = the share of failures that only one has.
        mean_error = (predicted != y).mean()
        if mean_error > 0:
            np.testing.assert_allclose(value["GD"], 1 - value["DF"] / mean_error, atol=1e-12)
    clones = np.repeat(predicted[:1], 2, axis=0)
    for name, least in {"BD": 0, "KW": 0, "E": 0, "GD": 0, "CF": 0, "CK": 1, "FK": 1, "QS": 1, "rho": 1}.items():
        clone = diversity(clones, y, metric=name)
        assert np.isnan(clone) or clone == pytest.approx(least)


PERFECT = np.array([[0, 1, 0, 1], [0, 1, 0, 1]])


@pytest.mark.parametrize(
    ("predicted", "y", "name"),
    [
        ([[0, 1]], [0, 1], "KW"),
        (np.empty((2, 0), int), np.empty(0, int), "BD"),
        (PERFECT, PERFECT[0], "GD"),
        (PERFECT, PERFECT[0], "QS"),
        (PERFECT, PERFECT[0], "rho"),
        ([[0, 0], [0, 0]], [0, 1], "CK"),
        ([[0, 0], [0, 0]], [0, 1], "FK"),
    ],
)
def test_undefined(predicted, y, name):
    assert np.isnan(diversity(predicted, y, metric=name))


def test_defined_where_ensemblebench_crashes():
    """There GD is an IndexError for N <= L rows and a ZeroDivisionError without errors; CF is 0 then by definition."""
    predicted = np.array([[0, 1], [0, 0], [1, 1]])
    assert diversity(predicted, [0, 1], metric="GD") == 1.0
    assert diversity(PERFECT, PERFECT[0], metric="CF") == 0.0


def test_undefined_pairs_spoil_only_their_teams():
    predicted, y = make_classes(members=4, rows=40)
    predicted[2] = y
    values = team_diversity(predicted, y, all_masks(4), ["QS"])["QS"]
    np.testing.assert_array_equal(
        np.isnan(values), [len(members_of(t)) == 1 or 2 in members_of(t) for t in all_masks(4)]
    )


def test_the_registry_says_everything():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.low < metric.high
        assert any(year.isdigit() and len(year) == 4 for year in metric.reference.replace(",", " ").split())
    assert {name for name in METRICS if METRICS[name].higher_is_diverse} == {"BD", "KW", "GD", "E", "CF"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, y: diversity(p, y, metric="GDD"), "did you mean 'GD'"),
        (lambda p, y: diversity(p, y, [0, 9]), "no member 9: the pool has members 0 to 5"),
        (lambda p, y: diversity(p, y, [0, 0]), "each once"),
        (lambda p, y: diversity(p, y, []), "at least one member"),
        (lambda p, y: diversity(p, y[:-1]), "80 rows of predictions, but labels of shape"),
        (lambda p, y: diversity(p / 2, y), "give probabilities"),
        (lambda p, y: diversity(p[0], y), r"not \(80,\)"),
        (lambda p, y: diversity(p[:0], y), "no members"),
        (lambda p, y: pairwise(p, y, "FK"), "'FK' has no matrix of pairs.*BD, CK"),
        (lambda p, y: team_diversity(p, y, [64]), r"1 to 2\^6 - 1"),
        (lambda p, y: team_diversity(p, y, [0]), "1 to"),
        (lambda p, y: team_diversity(p, y, [[True, False]]), r"\(teams, 6\)"),
        (lambda p, y: team_diversity(p, y, np.zeros((2, 6), bool)), "row without any"),
        (lambda p, y: get_metric("x"), "Known: BD, CF"),
    ],
)
def test_errors(call, message):
    with pytest.raises(UserError, match=message):
        call(*make_classes())
