"""All teams against naive recomputation of every team: mean, arg max; counts of votes; logs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lrensemble import UserError
from lrensemble.diversity import (
    METRICS,
    TeamScores,
    all_masks,
    all_teams,
    lattice,
    lattice_votes,
    margins,
    members_of,
    team_diversity,
    top_teams,
    votes,
)
from lrensemble.metrics import nll_rows
from tests.diversity.data import make_classes, make_probabilities

BACKENDS = ("numpy", "numba", "torch")
VOTES = ["accuracy", "plurality", "nll"]


def naive_votes(p, y, masks):
    scores = {name: [] for name in VOTES}
    for mask in masks:
        team = p[members_of(mask)].astype(np.float64)
        vote = team.mean(0)
        says = np.stack([(team.argmax(-1) == k).sum(0) for k in range(p.shape[2])], axis=1)
        scores["accuracy"].append((vote.argmax(-1) == y).mean())
        scores["plurality"].append((says.argmax(-1) == y).mean())
        scores["nll"].append(nll_rows(vote, y).mean())
    return scores


def collect(chunks):
    chunks = list(chunks)
    masks = np.concatenate([chunk.masks for chunk in chunks])
    return masks, {name: np.concatenate([chunk.scores[name] for chunk in chunks]) for name in chunks[0].scores}


def check(p, y, backend, **options):
    masks, scores = collect(all_teams(p, y, VOTES, backend=backend, **options))
    expected = naive_votes(p, y, masks)
    np.testing.assert_array_equal(scores["accuracy"], expected["accuracy"])
    np.testing.assert_array_equal(scores["plurality"], expected["plurality"])
    np.testing.assert_allclose(scores["nll"], expected["nll"], rtol=1e-12, atol=1e-15)
    return masks


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_votes_of_all_teams_equal_the_naive_ones(backend, dtype):
    for members, classes in ((1, 3), (2, 2), (8, 5)):
        p, y = make_probabilities(members=members, rows=70, classes=classes, seed=members)
        masks = check(p.astype(dtype), y, backend)
        np.testing.assert_array_equal(masks, all_masks(members))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("chunk", [2, 7, 32, 300])
def test_any_chunks_and_threads(backend, chunk, monkeypatch):
    monkeypatch.setattr(lattice_votes, "COMPILED_BITS", 3)
    monkeypatch.setattr(lattice_votes, "NUMPY_BITS", 3)
    monkeypatch.setattr(votes, "_CHUNK", 200)
    monkeypatch.setattr(margins, "_CHUNK", 100)
    p, y = make_probabilities(members=6, rows=33)
    for threads in (1, 3):
        np.testing.assert_array_equal(check(p, y, backend, chunk=chunk, threads=threads), all_masks(6))
    assert max(len(part.masks) for part in all_teams(p, y, chunk=chunk)) <= chunk


@pytest.mark.parametrize("backend", BACKENDS)
def test_votes_of_sizes(backend):
    p, y = make_probabilities(members=9, rows=50)
    masks = check(p, y, backend, sizes=[4, 2, 9], chunk=50)
    np.testing.assert_array_equal(masks, all_masks(9, [2, 4, 9]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_go_to_the_lowest_class(backend):
    """Probabilities of few bits add up exactly and tie all the time."""
    rng = np.random.default_rng(0)
    for seed in range(5):
        p = rng.multinomial(4, np.ones(4) / 4, size=(6, 60)).astype(np.float32) / 4
        check(p, np.random.default_rng(seed).integers(0, 4, 60), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_probabilities_and_sums_above_one(backend):
    """The clipping of the NLL: to eps below, to 1 above."""
    p, y = make_probabilities(members=5, rows=40, quality=3)
    p[:, :9] = 0
    p[:, np.arange(9), (y[:9] + 1) % 4] = 1
    p[0, 3] = 0.25
    p[:, 12] = 0
    p[:, 12, y[12]] = np.nextafter(np.float32(1), np.float32(2))
    p[2, 20] = np.float32(1e-30)
    check(p, y, backend)


@settings(max_examples=40)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(2, 4)),
               elements=st.floats(0, 1, width=16)),
    st.sampled_from(BACKENDS),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_any_numbers(p, backend, random):
    check(p, np.array([random.randrange(p.shape[2]) for _ in range(p.shape[1])]), backend)


@pytest.mark.parametrize("bits", [0, 1, 3, 7])
def test_diversity_of_all_teams_equals_that_of_lists(bits, monkeypatch):
    predicted, y = make_classes(members=7, rows=60)
    predicted[4] = y  # undefined pairs
    masks, scores = collect(all_teams(predicted, y, METRICS, chunk=1 << max(1, bits)))
    expected = team_diversity(predicted, y, masks)
    for name in METRICS:
        np.testing.assert_allclose(scores[name], expected[name], rtol=1e-12, atol=1e-15)
    oriented = collect(all_teams(predicted, y, METRICS, sizes=[3], oriented=True))
    expected = team_diversity(predicted, y, oriented[0], oriented=True)
    for name in METRICS:
        np.testing.assert_allclose(oriented[1][name], expected[name], rtol=1e-12, atol=1e-15)


def test_failures_of_every_team():
    rng = np.random.default_rng(0)
    members, bits = 6, 4
    patterns, times = np.unique(rng.integers(0, 64, 100), return_counts=True)
    for high in range(4):
        hist = lattice.failure_histogram(patterns, times, bits, members, high)
        for low in range(16):
            fails = np.bitwise_count(patterns & (low | high << bits))
            np.testing.assert_array_equal(hist[:, low], np.bincount(fails, times, minlength=7))


def test_plurality_rows_are_merged():
    predicted, y = make_classes(members=3, rows=500, classes=3)
    found = margins.plurality_margins(predicted, y)
    assert found.times.sum() > 3 * len(found.times)
    assert found.times.sum() + found.always <= 500


def test_memory_mapped_and_tensors(tmp_path):
    p, y = make_probabilities()
    np.save(tmp_path / "p.npy", p.astype(np.float16))
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    for other in (mapped, torch.as_tensor(np.array(mapped))):
        for name, values in collect(all_teams(other, y, VOTES))[1].items():
            np.testing.assert_array_equal(values, collect(all_teams(np.array(mapped), y, VOTES))[1][name])


@pytest.mark.parametrize("name", [*VOTES, "GD"])
@pytest.mark.parametrize("q", [1, 10, 1000])
def test_top_teams_are_those_of_a_full_sort(name, q):
    p, y = make_probabilities(members=8, rows=25)
    masks, scores = collect(all_teams(p, y, [name, "BD"]))
    top = top_teams(all_teams(p, y, [name, "BD"], chunk=16), name, q)
    sign = 1 if name == "nll" else -1
    key = np.nan_to_num(sign * scores[name], nan=np.inf)
    order = sorted(range(len(masks)), key=lambda t: (key[t], len(members_of(masks[t])), masks[t]))[:q]
    np.testing.assert_array_equal(top.masks, masks[order])
    np.testing.assert_array_equal(top.scores[name], scores[name][order])
    np.testing.assert_array_equal(top.scores["BD"], scores["BD"][order])


def test_a_stream_can_stop_anywhere():
    p, y = make_probabilities(members=8, rows=25)
    first = list(itertools.islice(all_teams(p, y, chunk=16), 2))
    np.testing.assert_array_equal(np.concatenate([chunk.masks for chunk in first]), np.arange(1, 32))
    assert set(top_teams(first, "accuracy", 3).masks) < set(range(1, 32))


def test_without_numba(monkeypatch):
    monkeypatch.setattr("lrensemble.diversity.sweep.kernels", lambda: None)
    monkeypatch.setattr("lrensemble.diversity.votes.kernels", lambda: None)
    monkeypatch.setattr("lrensemble.diversity.votes._WORTH_COMPILED", 0)
    p, y = make_probabilities()
    check(p, y, "auto")
    with pytest.raises(UserError, match=r"pip install .*\[fast\]"):
        all_teams(p, y, backend="numba")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, y: all_teams(p, y, ["acuracy"]), "did you mean 'accuracy'"),
        (lambda p, y: all_teams(p.argmax(-1), y, ["nll"]), "'nll' needs probabilities"),
        (lambda p, y: all_teams(p, y + 9), "labels must be 0 to 3, not 9 to 12"),
        (lambda p, y: all_teams(p, y, sizes=[7]), "team of 7"),
        (lambda p, y: all_teams(p[:, :0], y[:0]), "no rows"),
        (lambda p, y: all_teams(p, y, backend="nunpy"), "did you mean 'numpy'"),
        (lambda p, y: all_teams(np.concatenate([p] * 5), y), r"2\^30, the limit is 2\^24"),
        (lambda p, y: top_teams(all_teams(p, y), "GD"), "not scored by 'GD'"),
        (lambda p, y: top_teams([], "GD"), "no teams"),
    ],
)
def test_errors(call, message):
    """Raised at the call, not at the first team."""
    with pytest.raises(UserError, match=message):
        call(*make_probabilities())


def test_scores_are_a_record():
    scores = TeamScores(np.array([1], np.uint32), {"accuracy": np.array([0.5])})
    assert scores.masks[0] == 1
