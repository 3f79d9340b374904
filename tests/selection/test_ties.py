"""Ties of weighted votes against exact fractions: rounding decides none of them, on any way to a team's classes."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lrensemble.diversity import all_teams, members_of, team_votes
from lrensemble.evaluation.same_size import random_teams
from lrensemble.export.module import TeamModule
from lrensemble.metrics import correct_rows, winners
from lrensemble.selection import VOTES, Ballots, BruteForce, DiverseGreedy, Greedy, TopK, team_vote
from lrensemble.selection.flips import RunningAccuracy
from lrensemble.selection.running import RunningVote
from lrensemble.selection.votes import counts_of

EXACT = ("soft", "plurality", "majority", "borda")  # votes whose ties fractions know


def tenths(members, rows, classes, seed, dtype):
    """Probabilities of few decimals, which floats do not have exactly, and permuted so that there are many ties."""
    rng = np.random.default_rng(seed)
    numbers = rng.multinomial(10, np.ones(classes) / classes, size=rows)
    decimals = np.stack([rng.permuted(numbers, axis=1) for _ in range(members)])
    return decimals, (decimals / 10).astype(dtype), rng.integers(0, classes, rows)


def exact_classes(decimals, counts, vote):
    """Classes that win, in whole numbers and fractions: (N,)."""
    rows, classes = decimals.shape[1:]
    out = []
    for i in range(rows):
        votes = [Fraction(0)] * classes
        soft = [Fraction(0)] * classes
        for count, row in zip(counts, decimals[:, i].tolist(), strict=True):
            first = row.index(max(row))
            for k in range(classes):
                soft[k] += int(count) * Fraction(row[k], 10)
                points = sum(x < row[k] for x in row) + Fraction(row.count(row[k]) - 1, 2)
                votes[k] += int(count) * (points if vote == "borda" else Fraction(k == first))
        if vote == "soft" or (vote == "majority" and 2 * max(votes) <= int(sum(counts))):
            votes = soft
        out.append(votes.index(max(votes)))
    return np.array(out)


POOLS = {
    "members": st.integers(2, 7),
    "classes": st.integers(2, 5),
    "seed": st.integers(0, 10_000),
    # Of float32, one decimal is another number than the decimal: its ties are those of the votes with whole ballots.
    "kind": st.sampled_from([(vote, np.float64) for vote in EXACT] + [(vote, np.float32) for vote in EXACT[1::2]]),
}


@settings(max_examples=150, deadline=None)
@given(**POOLS, total=st.integers(1, 60))
def test_a_teams_classes_are_the_exact_ones(members, classes, seed, kind, total):
    vote, dtype = kind
    decimals, P, y = tenths(members, 25, classes, seed, dtype)
    counts = np.random.default_rng(seed).multinomial(total, np.ones(members) / members)
    expected = exact_classes(decimals, counts, vote)
    for weights in (counts / total, (counts / total) / (counts / total).sum(), counts * np.float64(0.1)):
        found = team_vote(P, weights, vote)
        np.testing.assert_array_equal(found.argmax(-1), expected)
        np.testing.assert_array_equal(VOTES[vote](P, weights).argmax(-1), expected)
        ballots = Ballots(P, y, vote=vote)
        score = (expected == y).mean()
        assert ballots.score(ballots.cast(weights), "accuracy") == score
        assert ballots.scores((weights / weights.sum())[None], "accuracy")[0] == pytest.approx(score, abs=1e-12)
        assert correct_rows(found, y).mean() == score


@settings(max_examples=30, deadline=None)
@given(**POOLS)
def test_running_votes_and_prefixes_are_exact(members, classes, seed, kind):
    vote, dtype = kind
    decimals, P, y = tenths(members, 25, classes, seed, dtype)
    ballots = Ballots(P, y, vote=vote)
    running = [RunningVote(ballots, "accuracy")] + ([RunningAccuracy(ballots)] if ballots.vote.ordered else [])
    counts = np.zeros(members, dtype=int)
    for pick in np.random.default_rng(seed).integers(0, members, 12):
        right = [(exact_classes(decimals, counts + np.eye(members)[m], vote) == y).sum() for m in range(members)]
        for one in running:
            ties, score = one.ties(np.arange(members))
            np.testing.assert_array_equal(ties, np.flatnonzero(np.array(right) == max(right)))
            assert score == max(right) / 25
            one.add(int(pick))
        counts[pick] += 1
    order = np.random.default_rng(seed).permutation(members)
    prefixes = [np.isin(np.arange(members), order[: k + 1]) for k in range(members)]
    expected = [(exact_classes(decimals, team, vote) == y).mean() for team in prefixes]
    np.testing.assert_array_equal(ballots.prefixes(order, "accuracy"), expected)


@pytest.mark.parametrize("backend", ["numpy", "numba", "torch"])
def test_all_teams_are_exact(backend):
    if backend == "numba":
        pytest.importorskip("numba")
    for seed in range(3):
        decimals, P, y = tenths(6, 40, 3, seed, np.float64)
        everything = list(all_teams(P, y, ["accuracy", "plurality"], backend=backend))
        masks = np.concatenate([chunk.masks for chunk in everything])
        for name, vote in (("accuracy", "soft"), ("plurality", "plurality")):
            teams = [np.isin(np.arange(6), members_of(mask)) for mask in masks]
            expected = [(exact_classes(decimals, team, vote) == y).mean() for team in teams]
            np.testing.assert_array_equal(np.concatenate([chunk.scores[name] for chunk in everything]), expected)
            np.testing.assert_array_equal(team_votes(P, y, masks, [name])[name], expected)


def test_selectors_and_baselines_are_exact():
    for seed in range(5):
        decimals, P, y = tenths(6, 40, 3, seed, np.float64)

        def right(team, decimals=decimals, y=y, vote="soft"):
            return (exact_classes(decimals, team, vote) == y).mean()

        best = max(right(team) for team in itertools.product([0, 1], repeat=6) if any(team))
        assert right(BruteForce("accuracy").fit(P, y).weights_ > 0) == best
        for selector in (
            Greedy("accuracy", steps=9),
            TopK(objective="accuracy"),
            DiverseGreedy("accuracy", strength=0),
        ):
            for step in selector.fit(P, y).trajectory_:
                assert step.score == right(counts_of(step.weights))
        teams = np.array([team for team in itertools.product([0, 1], repeat=6) if sum(team) == 3])
        for vote in EXACT:
            found = random_teams(Ballots(P, y, vote=vote), teams.astype(float))
            np.testing.assert_allclose(found.accuracies, [right(team, vote=vote) for team in teams], atol=1e-12)


def test_three_of_forty():
    """The smallest instance: 3 + 4 + 1 of 40 votes against 8, which are 0.2 and 0.2 + 3e-17 as sums of shares."""
    counts = np.array([3, 8, 4, 1, 12, 12])
    votes = np.array([1, 0, 1, 1, 2, 3])
    shares = counts / 40
    assert shares[0] + shares[2] + shares[3] != shares[1]
    P = np.eye(4)[votes][:, None]
    cut = P[:, :, :2] + 0  # only the two that are tied: the rest of the votes is as good as none
    assert team_vote(cut[:4], shares[:4], "plurality").argmax(-1) == [0]
    vote = team_vote(P, shares, "plurality")[0]
    assert vote[0] == vote[1] == 0.2


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any), st.floats(0.01, 1e6))
def test_counts_of_weights(counts, factor):
    whole = np.array(counts)
    found = counts_of(whole * factor)
    np.testing.assert_array_equal(found, whole // np.gcd.reduce(whole))


def test_weights_that_are_no_counts_stay():
    weights = np.random.default_rng(0).dirichlet(np.ones(5))
    assert counts_of(weights) is not None
    np.testing.assert_array_equal(counts_of(weights), weights)
    np.testing.assert_array_equal(counts_of(np.full(5000, 0.0002)), np.ones(5000))
    # Their ties are decided by the tolerance.
    a, b = weights[:2]
    P = np.eye(2)[[1, 1, 1, 0, 0, 0]][:, None]
    for order in itertools.permutations([a, b, 0.1]):
        assert team_vote(P, np.array([a, b, 0.1, *order]), "plurality").argmax(-1) == [0]
    assert winners(np.array([0.5 - 1e-9, 0.5])) == 1  # a difference, not rounding


class Fixed(nn.Module):
    """Probabilities whatever the images, as logits."""

    def __init__(self, p: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("logits", torch.from_numpy(p).log())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits + 0 * images.mean()


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(VOTES)), st.integers(1, 6), st.integers(2, 5), st.integers(0, 10_000))
def test_the_exported_module_predicts_the_same_classes(vote, members, classes, seed):
    rng = np.random.default_rng(seed)
    _, P, _ = tenths(members, 25, classes, seed, np.float32)
    if seed % 2:  # votes that float32 cannot tell apart
        P = np.ones_like(P) / classes + rng.normal(scale=1e-8, size=P.shape).astype(np.float32)
        P[-1] = rng.permuted(P[0], axis=-1)
    models = [Fixed(p) for p in P]
    weights = rng.integers(1, 9, members) / 40
    norm = {"mean": [0.0], "std": [1.0], "shape": (1, 1, 1)}
    module = TeamModule(models, weights, vote, [1.0] * members, **norm, classes=classes)
    images = torch.zeros(25, 1, 1, 1)
    # What the networks give, in the module's own arithmetic.
    given = np.stack([model(images).softmax(1).numpy() for model in models])
    expected = team_vote(given, weights, vote)
    found = module(images).numpy()
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    np.testing.assert_allclose(found, expected, atol=1e-6)
