"""Selectors that optimise a metric by name, and brute force for every vote: against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from lrensemble import UserError
from lrensemble.selection import SELECTORS, VOTES, Ballots, BruteForce, Step, make_selector, smallest_within_one_se
from tests.selection.oracles import make, plain_score, plain_vote

SCORES = {
    "macro_f1": lambda p, y: f1_score(y, p.argmax(1), average="macro"),
    "auroc": lambda p, y: np.mean([roc_auc_score(y == c, p[:, c]) for c in np.unique(y)]),
    "brier": lambda p, y: -((p - np.eye(p.shape[1])[y]) ** 2).sum(1).mean(),
}


def teams(total: int):
    return [list(t) for k in range(1, total + 1) for t in itertools.combinations(range(total), k)]


def equal(team: list[int], total: int) -> np.ndarray:
    weights = np.zeros(total)
    weights[team] = 1 / len(team)
    return weights


@pytest.mark.parametrize("objective", SCORES)
def test_the_best_team_of_all_is_found(objective: str):
    P, y = make(6, 60, 3, seed=3)
    found = {tuple(t): SCORES[objective](plain_vote(equal(t, 6), P), y) for t in teams(6)}
    best = max(found.values())
    for name in ("brute-force", "pareto"):
        options = {"budget": 6.0} if name == "pareto" else {}
        selector = make_selector(name, objective=objective, **options).fit(P, y)
        assert found[tuple(selector.members_)] == pytest.approx(best, abs=1e-12), name
    single = make_selector("best-single", objective=objective).fit(P, y)
    assert found[tuple(single.members_)] == max(found[(m,)] for m in range(6))
    top = make_selector("top-k", objective=objective).fit(P, y)
    for step in top.trajectory_:
        assert step.score == pytest.approx(found[tuple(np.flatnonzero(step.weights))], abs=1e-12)


@pytest.mark.parametrize("objective", SCORES)
def test_greedy_picks_what_the_plain_loop_picks(objective: str):
    P, y = make(5, 50, 3, seed=4)
    selector = make_selector("greedy", objective=objective, steps=6).fit(P, y)
    counts = np.zeros(5)
    for step in selector.trajectory_:
        after = [SCORES[objective](plain_vote(counts + np.eye(5)[m], P), y) for m in range(5)]
        assert after[step.member] == pytest.approx(max(after), abs=1e-12)
        assert step.score == pytest.approx(max(after), abs=1e-12)
        counts[step.member] += 1
    best = max(step.score for step in selector.trajectory_)
    assert SCORES[objective](selector.predict_proba(P), y) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_every_selector_takes_a_metric_or_says_why_not(name: str):
    P, y = make(5, 60, 3, seed=5)
    if name == "convex":
        with pytest.raises(UserError, match="objective macro_f1 is not possible with convex"):
            make_selector(name, objective="macro_f1")
        return
    selector = make_selector(name, objective="macro_f1", size=2).fit(P, y)
    scores = {tuple(t): SCORES["macro_f1"](plain_vote(equal(t, 5), P), y) for t in teams(5) if len(t) == 2}
    if name == "diverse":
        selector = make_selector(name, objective="macro_f1", size=1, strength=0.0).fit(P, y)
        assert list(selector.members_) == list(make_selector("best-single", objective="macro_f1").fit(P, y).members_)
    elif name in ("focal", "hierarchical"):
        kept = [tuple(np.flatnonzero([mask >> m & 1 for m in range(5)])) for mask in map(int, selector.candidates_)]
        assert scores[tuple(selector.members_)] == pytest.approx(max(scores[team] for team in kept), abs=1e-12)


@pytest.mark.parametrize("vote", VOTES)
@pytest.mark.parametrize("objective", ["nll", "accuracy"])
def test_brute_force_knows_every_vote(vote: str, objective: str):
    P, y = make(5, 40, 3, seed=6)
    chosen = BruteForce(objective=objective, vote=vote).fit(P, y)
    scores = {tuple(t): plain_score(equal(t, 5), P, y, objective, vote) for t in teams(5)}
    assert scores[tuple(chosen.members_)] == pytest.approx(max(scores.values()), abs=1e-12)
    assert chosen.teams_tried_ == 31
    cooled = BruteForce(objective=objective, vote=vote, temperature=True).fit(P, y)
    scaled = np.stack([P[m] ** (1 / t) for m, t in enumerate(cooled.temperatures_)])
    scaled /= scaled.sum(-1, keepdims=True)
    again = {tuple(t): plain_score(equal(t, 5), scaled, y, objective, vote) for t in teams(5)}
    assert again[tuple(cooled.members_)] == pytest.approx(max(again.values()), abs=1e-6)


def test_one_standard_error_of_a_metric_is_that_of_the_bootstrap():
    P, y = make(4, 300, 3, seed=7)
    ballots = Ballots(P, y)
    for objective in ("accuracy", "brier"):
        vote = ballots.cast(np.ones(4) / 4)
        rows = (vote.argmax(1) == y) if objective == "accuracy" else ((vote - np.eye(3)[y]) ** 2).sum(1)
        expected = rows.std(ddof=1) / np.sqrt(300)
        assert ballots.standard_error(vote, objective) == pytest.approx(expected, rel=0.15)
    team, one = np.ones(4) / 4, np.eye(4)[0]
    error = ballots.standard_error(ballots.cast(team), "brier")
    for gap, expected in ((0.9 * error, one), (1.1 * error, team)):
        steps = [Step(team, 0.0), Step(one, -gap)]
        np.testing.assert_array_equal(smallest_within_one_se(steps, ballots, "brier"), expected)


def test_an_unknown_objective_is_one_line():
    P, y = make(3, 20, 3)
    with pytest.raises(UserError, match="unknown objective 'acuracy': did you mean 'accuracy'"):
        make_selector("greedy", objective="acuracy").fit(P, y)
