"""Focal diversity against subsets taken by hand, EnsembleBench, and the sampled version."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from lrensemble import UserError
from lrensemble.diversity import (
    METRICS,
    SIX,
    all_masks,
    diversity,
    eq_scores,
    focal_diversity,
    focal_scores,
    fq_scores,
    mask_of,
    members_of,
    scale_by_size,
)
from tests.diversity.data import make_classes

BENCH = json.loads((Path(__file__).parent / "ensemblebench.json").read_text())


def test_numbers_of_ensemblebench_on_all_negatives():
    predicted = np.array([list(map(int, row)) for row in BENCH["predictions"]])
    y = np.array(list(map(int, BENCH["labels"])))
    masks = all_masks(5)
    scores = focal_scores(predicted, y, masks)
    for key, expected in BENCH["focal"].items():
        focal, team = key.split("|")
        members = [int(m) for m in team.split(",")]
        for name in SIX:
            found = scores[name][int(focal), masks.tolist().index(mask_of(members))]
            # EnsembleBench adds an epsilon to Q's denominator.
            assert found == pytest.approx(expected[name], rel=1e-12, abs=1e-15)
            assert focal_diversity(predicted, y, members, int(focal), name) == pytest.approx(found, abs=1e-15)


def test_equals_the_metric_on_the_negatives():
    predicted, y = make_classes(members=5, rows=70)
    masks = all_masks(5)
    scores = focal_scores(predicted, y, masks, METRICS)
    for f, (t, mask) in itertools.product(range(5), enumerate(masks)):
        wrong = predicted[f] != y
        for name in METRICS:
            if f not in members_of(mask):
                assert np.isnan(scores[name][f, t])
            elif name not in ("QS", "rho"):  # these count 0/0 pairs as 0 here
                expected = diversity(predicted[:, wrong], y[wrong], members_of(mask), name, oriented=True)
                np.testing.assert_allclose(scores[name][f, t], expected, rtol=1e-13)


def test_focal_q_of_pairs_is_degenerate():
    predicted, y = make_classes()
    pairs = focal_scores(predicted, y, all_masks(6, [2]), ["QS", "rho"])
    for values in pairs.values():
        assert set(values[~np.isnan(values)]) == {0.0}


def test_sampled_version_estimates_the_exact_one():
    predicted, y = make_classes(rows=2000)
    exact = focal_diversity(predicted, y, [0, 2, 5], 2, "GD")
    sampled = [focal_diversity(predicted, y, [0, 2, 5], 2, "GD", samples=100, seed=seed) for seed in range(30)]
    assert np.std(sampled) > 0
    assert np.mean(sampled) == pytest.approx(exact, abs=4 * np.std(sampled) / np.sqrt(30))
    assert sampled[0] == focal_diversity(predicted, y, [0, 2, 5], 2, "GD", samples=100, seed=0)


def test_scaling_and_fq_by_hand():
    # Teams {0,1}, {0,2}, {1,2} and {0,1,2}; members x teams.
    sizes = np.array([2, 2, 2, 3])
    nan = np.nan
    focal = np.array([[0.2, 0.6, nan, 0.5], [0.1, nan, 0.9, 0.4], [nan, 0.3, 0.3, 0.3]])
    scaled = scale_by_size(focal, sizes)
    np.testing.assert_allclose(scaled, [[0, 1, nan, 0], [0, nan, 1, 0], [nan, 0, 0, 0]], atol=1e-15)
    np.testing.assert_allclose(fq_scores(focal, sizes), [0, 0.5, 0.5, 0], atol=1e-15)


def test_a_perfect_member_has_no_negatives_and_is_left_out():
    predicted, y = make_classes(members=4)
    predicted[1] = y
    masks = all_masks(4, [2, 3])
    sizes = np.bitwise_count(masks)
    scores = focal_scores(predicted, y, masks)
    assert all(np.isnan(values[1]).all() for values in scores.values())
    fq = fq_scores(scores["GD"], sizes)
    assert not np.isnan(fq).any()
    assert np.isnan(focal_diversity(predicted, y, [0, 1], 1))
    predicted[:] = y
    assert np.isnan(fq_scores(focal_scores(predicted, y, masks)["GD"], sizes)).all()


def test_fq_is_the_same_for_kw_and_bd_and_eq_is_the_mean():
    predicted, y = make_classes(members=6, rows=300)
    masks = all_masks(6, range(2, 7))
    sizes = np.bitwise_count(masks)
    fq = {name: fq_scores(values, sizes) for name, values in focal_scores(predicted, y, masks).items()}
    np.testing.assert_allclose(fq["KW"], fq["BD"], atol=1e-12)
    assert all(((values >= 0) & (values <= 1)).all() for values in fq.values())
    eq = eq_scores(fq, sizes)
    expected = np.mean([scale_by_size(fq[name], sizes) for name in ("CK", "BD", "GD")], axis=0)
    np.testing.assert_array_equal(eq, expected)
    assert eq[sizes == 3].min() < eq[sizes == 3].max()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, y: focal_diversity(p, y, [0, 1], 2), r"focal model 2 is not in the team \[0, 1\]"),
        (lambda p, y: focal_scores(p, y, [3], ["GDD"]), "did you mean 'GD'"),
        (lambda p, y: eq_scores({"GD": np.ones(3)}, np.full(3, 2)), "CK, BD not given"),
    ],
)
def test_errors(call, message):
    with pytest.raises(UserError, match=message):
        call(*make_classes())
