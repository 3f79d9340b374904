"""Votes against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gmean
from sklearn.ensemble import VotingClassifier

from lrensemble import UserError
from lrensemble.selection import (
    VOTES,
    All,
    Ballots,
    Greedy,
    TopK,
    canonical_vote,
    make_selector,
    team_vote,
)
from tests.selection.oracles import make, plain_score, plain_vote


@pytest.mark.parametrize("vote", VOTES)
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_votes_equal_the_plain_loop(vote, classes):
    P, _ = make(members=5, rows=40, classes=classes)
    for weights in (np.ones(5), np.array([0.3, 0, 0.1, 2, 0.6])):
        expected = plain_vote(weights, P, vote) if classes > 1 else np.ones((40, 1))
        np.testing.assert_allclose(VOTES[vote](P, weights), expected, rtol=1e-6)
        np.testing.assert_allclose(team_vote(P, weights, vote), expected, rtol=1e-6)


@given(st.sampled_from(sorted(VOTES)), st.integers(1, 6), st.integers(1, 5), st.integers(0, 10_000))
def test_votes_are_distributions_and_know_no_order(vote, members, classes, seed):
    P, _ = make(members=members, rows=10, classes=classes, seed=seed)
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(members))
    found = team_vote(P, weights, vote)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    order = rng.permutation(members)
    np.testing.assert_allclose(team_vote(P[order], weights[order], vote), found, atol=1e-12)
    # A duplicate with half of the weight each changes nothing.
    twice = team_vote(np.concatenate([P, P]), np.concatenate([weights, weights]) / 2, vote)
    np.testing.assert_allclose(twice, found, atol=1e-12)


def test_plurality_is_scikit_learns_hard_voting_and_soft_its_soft_voting():
    P, _ = make(members=4, rows=200, classes=4)

    class Fixed:
        def __init__(self, p):
            self.p = p

        def predict(self, X):
            return self.p.argmax(1)

        def predict_proba(self, X):
            return self.p

    for weights in (None, [1, 2, 1, 1]):
        for kind, vote in (("hard", "plurality"), ("soft", "soft")):
            oracle = VotingClassifier([(str(i), None) for i in range(4)], voting=kind, weights=weights)
            oracle.estimators_ = [Fixed(p.astype(float)) for p in P]
            oracle.estimators = [(str(i), e) for i, e in enumerate(oracle.estimators_)]
            oracle.le_ = type("Same", (), {"inverse_transform": staticmethod(lambda k: k)})
            found = team_vote(P, np.ones(4) if weights is None else np.array(weights), vote)
            np.testing.assert_array_equal(found.argmax(1), oracle.predict(np.zeros((200, 1))))


def test_logit_is_the_normalised_geometric_mean():
    P, _ = make(dtype=np.float64)
    mean = gmean(P, axis=0)
    np.testing.assert_allclose(team_vote(P, np.ones(6), "logit"), mean / mean.sum(1, keepdims=True), rtol=1e-10)


def test_ties_go_to_the_lower_class():
    P = np.array([[[0.1, 0.6, 0.3]], [[0.6, 0.1, 0.3]]])
    assert team_vote(P, np.ones(2), "plurality").argmax(1) == [0]
    assert team_vote(np.array([[[0.4, 0.4, 0.2]]]), np.ones(1), "plurality").argmax(1) == [0]


def test_majority_needs_more_than_half():
    P = np.array([[[0.9, 0.1, 0.0]], [[0.2, 0.7, 0.1]], [[0.0, 0.4, 0.6]]])
    np.testing.assert_allclose(team_vote(P, np.ones(3), "majority"), [[1.1 / 3, 1.2 / 3, 0.7 / 3]])
    np.testing.assert_allclose(team_vote(P, np.array([3, 1, 1]), "majority"), [[0.6, 0.2, 0.2]])


@pytest.mark.parametrize("vote", VOTES)
@pytest.mark.parametrize("objective", ["nll", "accuracy"])
def test_scores_in_pieces_equal_the_plain_loop(vote, objective):
    P, y = make()
    weights = np.random.default_rng(0).dirichlet(np.ones(6), 20)
    expected = [plain_score(w, P, y, objective, vote) for w in weights]
    for memory in (2**30, 5000):
        scores = Ballots(P, y, vote=vote, memory=memory).scores(weights, objective)
        np.testing.assert_allclose(scores, expected, rtol=1e-5)
    ballots = Ballots(P, y, vote=vote)
    np.testing.assert_allclose(
        ballots.singles(objective), [plain_score(w, P, y, objective, vote) for w in np.eye(6)], rtol=1e-5
    )
    order = np.array([3, 1, 0])
    prefixes = [[1.0 * (m in order[:k]) for m in range(6)] for k in (1, 2, 3)]
    np.testing.assert_allclose(
        ballots.prefixes(order, objective), [plain_score(w, P, y, objective, vote) for w in prefixes], rtol=1e-5
    )


@pytest.mark.parametrize("vote", VOTES)
@pytest.mark.parametrize("objective", ["nll", "accuracy"])
def test_selectors_optimise_the_vote_that_is_used(vote, objective):
    for seed in range(3):
        P, y = make(seed=seed, rows=50)
        picks, counts = [], np.zeros(6)
        for _ in range(6):
            scores = [plain_score(counts + np.eye(6)[m], P, y, objective, vote) for m in range(6)]
            near = [m for m in range(6) if scores[m] >= max(scores) - 1e-12]
            near = [m for m in near if counts[m]] or near
            nll = [plain_score(counts + np.eye(6)[m], P, y, "nll", vote) for m in near]
            best = near[int(np.argmax(np.round(nll, 10)))]
            picks.append(best)
            counts[best] += 1
        selector = Greedy(objective=objective, vote=vote, steps=6).fit(P, y)
        if selector.trajectory_[0].member >= 0:
            assert [step.member for step in selector.trajectory_] == picks
        else:  # another start, as nobody could be added to the best single member
            assert objective == "accuracy"
            assert len(set(picks)) == 1
            assert len(selector.members_) > 1
        score = plain_score(selector.weights_, P, y, objective, vote)
        assert score == pytest.approx(max(step.score for step in selector.trajectory_), rel=1e-5)
        np.testing.assert_allclose(selector.predict_proba(P), plain_vote(selector.weights_, P, vote), rtol=1e-5)
        np.testing.assert_array_equal(selector.predict(P), selector.predict_proba(P).argmax(1))
        top = TopK(objective=objective, vote=vote).fit(P, y)
        assert plain_score(top.weights_, P, y, objective, vote) == pytest.approx(
            max(step.score for step in top.trajectory_), rel=1e-5
        )


def test_names():
    assert canonical_vote("weighted") == "soft"
    assert make_selector("all", vote="geometric").vote == "logit"
    with pytest.raises(UserError, match="unknown vote 'plurlity': did you mean 'plurality'"):
        make_selector("all", vote="plurlity")
    with pytest.raises(UserError, match="did you mean 'borda'"):
        All(vote="bord").fit(*make())


def test_a_vote_is_never_left_out(monkeypatch):
    """A team selected for one vote and used with another is a mistake, not a default."""
    from lrensemble import selection

    class Soft(selection.Selector):
        def __init__(self, objective="nll"):
            self.objective = objective

    monkeypatch.setattr(selection.SELECTORS, "_values", {**selection.SELECTORS, "only-soft": Soft})
    assert isinstance(make_selector("only-soft", vote="weighted", size=3), Soft)
    with pytest.raises(UserError, match="vote borda is not possible with only-soft: use best-single"):
        make_selector("only-soft", vote="borda")
    with pytest.raises(UserError, match="temperature True is not possible with only-soft"):
        make_selector("only-soft", temperature=True)
