"""Focal, hierarchical and diverse selection against the papers' procedures written out with loops and sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.cluster import KMeans

from lrensemble import UserError
from lrensemble.diversity import all_masks, diversity, focal_diversity, mask_of, members_of
from lrensemble.metrics import nll_rows
from lrensemble.selection import BruteForce, DiverseGreedy, Focal, Hierarchical, make_selector
from lrensemble.selection.focal import diverse_and_accurate
from tests.diversity.data import make_probabilities


def accuracy(p, y, team):
    return (p[list(team)].astype(float).mean(0).argmax(-1) == y).mean()


def nll(p, y, team):
    return nll_rows(p[list(team)].astype(float).mean(0), y).mean()


def scaled(values):
    low, high = min(values.values()), max(values.values())
    return {key: (v - low) / (high - low) if high > low else 0.0 for key, v in values.items()}


def fq_of_size(p, y, size, metric):
    """(focal, team) -> score, team -> FQ score."""
    teams = list(itertools.combinations(range(len(p)), size))
    focal = {}
    for f in range(len(p)):
        own = {team: focal_diversity(p, y, team, f, metric) for team in teams if f in team}
        focal |= {(f, team): v for team, v in scaled(own).items()}
    return focal, {team: np.mean([focal[f, team] for f in team]) for team in teams}


def good_side(points):
    """The two-means of scikit-learn from the papers' corners, on axes scaled to [0, 1]: team -> (accuracy, score)."""
    x, y = scaled({t: v[0] for t, v in points.items()}), scaled({t: v[1] for t, v in points.items()})
    data = np.array([[x[t], y[t]] for t in points])
    labels = KMeans(2, init=np.array([[1.0, 0.0], [0.0, 1.0]]), n_init=1, tol=0, algorithm="elkan").fit(data).labels_
    return {team for team, label in zip(points, labels, strict=True) if label == 0}


def fq_by_hand(p, y, metric):
    """Teams that both phases keep."""
    kept = set()
    for size in range(2, len(p)):
        focal, fq = fq_of_size(p, y, size, metric)
        first = set()
        for f in range(len(p)):
            own = {team: (accuracy(p, y, team), score) for (g, team), score in focal.items() if g == f}
            first |= good_side(own)
        kept |= good_side({team: (accuracy(p, y, team), fq[team]) for team in sorted(first)})
    return kept | {tuple(range(len(p)))}  # one team of that size: nothing to cluster


@pytest.mark.parametrize("metric", ["GD", "CK", "BD"])
def test_focal_equals_the_procedure_written_out(metric):
    for seed in range(3):
        p, y = make_probabilities(members=6, rows=300, seed=seed)
        selector = Focal(metric=metric).fit(p, y)
        expected = fq_by_hand(p, y, metric)
        assert {tuple(members_of(mask)) for mask in selector.candidates_} == expected
        best = min(expected, key=lambda team: nll(p, y, team))
        assert tuple(selector.members_) == best
        assert selector.teams_tried_ == 2**6 - 1


def hq_by_hand(p, y, metric, beta):
    pruned, alive = [], {}
    for size in range(2, len(p) + 1):
        rest = [t for t in itertools.combinations(range(len(p)), size) if not any(set(q) <= set(t) for q in pruned)]
        if not rest:
            break
        _, fq = fq_of_size(p, y, size, metric)
        rest.sort(key=lambda team: fq[team])
        keep = len(rest) - int(beta * len(rest))
        pruned += rest[keep:]
        alive[size] = set(rest[:keep])
    return alive


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.3])
def test_hierarchical_equals_the_procedure_written_out(beta):
    for seed in range(3):
        p, y = make_probabilities(members=6, rows=500, seed=seed)
        alive = hq_by_hand(p, y, "GD", beta)
        selector = Hierarchical(beta=beta).fit(p, y)
        survivors = set().union(*alive.values())
        assert {tuple(members_of(mask)) for mask in selector.candidates_} == survivors
        assert tuple(selector.members_) == min(survivors, key=lambda team: nll(p, y, team))
        of_three = Hierarchical(beta=beta, size=3).fit(p, y)
        assert {tuple(members_of(mask)) for mask in of_three.candidates_} == alive[3]


def test_hierarchical_without_survivors_of_the_size_takes_all_of_it():
    p, y = make_probabilities(members=6, rows=200)
    selector = Hierarchical(size=6, beta=0.2).fit(p, y)
    assert list(selector.members_) == list(range(6))


def test_eq_is_a_selector_like_the_others():
    p, y = make_probabilities(members=6, rows=300)
    selector = Focal(metric="eq", objective="accuracy").fit(p, y)
    assert 1 <= len(selector.candidates_) < 2**6 - 1
    assert len(selector.members_) >= 2
    best = max(accuracy(p, y, members_of(mask)) for mask in selector.candidates_)
    assert accuracy(p, y, selector.members_) == best


def test_two_means_by_hand():
    accuracy_ = np.array([0.9, 0.8, 0.2, 0.1, 0.5])
    score = np.array([1.0, 2.0, 8.0, 9.0, np.nan])
    np.testing.assert_array_equal(diverse_and_accurate(accuracy_, score), [True, True, False, False, False])
    # The scale of an axis does not matter (the papers' code has percent beside 0 to 1).
    np.testing.assert_array_equal(diverse_and_accurate(100 * accuracy_, score), [True, True, False, False, False])
    assert diverse_and_accurate(np.ones(3), np.ones(3)).all()
    assert not diverse_and_accurate(np.ones(3), np.full(3, np.nan)).any()


def test_two_means_equals_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = {i: tuple(v) for i, v in enumerate(rng.random((rng.integers(3, 60), 2)))}
        x = np.array(list(points.values()))
        assert set(np.flatnonzero(diverse_and_accurate(x[:, 0], x[:, 1]))) == good_side(points)


@pytest.mark.parametrize("name", ["focal", "hierarchical", "diverse"])
@pytest.mark.parametrize("objective", ["nll", "accuracy"])
def test_edges(name, objective):
    """One member, two, size 1, size all, and a pool without a single error."""
    p, y = make_probabilities(members=5, rows=60)
    assert list(make_selector(name, objective=objective).fit(p[:1], y).members_) == [0]
    assert list(make_selector(name, objective=objective).fit(p[:2], y).members_) == [0, 1]
    single = make_selector("best-single", objective=objective).fit(p, y)
    alone = make_selector(name, objective=objective, size=1).fit(p, y)
    np.testing.assert_array_equal(alone.members_, single.members_)
    assert len(make_selector(name, objective=objective, size=5).fit(p, y).members_) == 5
    perfect = np.zeros_like(p)
    perfect[:, np.arange(60), y] = 1
    assert len(make_selector(name, objective=objective).fit(perfect, y).members_) >= 2


def test_many_members():
    p, y = make_probabilities(members=30, rows=40)
    with pytest.raises(UserError, match=r"focal would try 1,073,741,823 teams .* give a size of \d+ or less"):
        Focal().fit(p, y)
    assert len(Focal(size=2).fit(p, y).members_) == 2
    with pytest.raises(UserError, match="hierarchical takes 24 members at most, not 30: use greedy"):
        Hierarchical(size=2).fit(p, y)
    assert len(DiverseGreedy(size=4).fit(p, y).members_) == 4


@pytest.mark.parametrize("metric", ["BD", "CK", "GD"])
def test_diverse_greedy_equals_the_loop(metric):
    p, y = make_probabilities(members=7, rows=90)

    def score(team):
        lack = diversity(p, y, team, metric, oriented=True) if len(team) > 1 else 0.0
        return -nll(p, y, team) - 0.3 * lack

    team, history = [], []
    for _ in range(7):
        team.append(max((m for m in range(7) if m not in team), key=lambda m: score([*team, m])))
        history.append(score(team))
    selector = DiverseGreedy(metric=metric, strength=0.3).fit(p, y)
    assert [step.member for step in selector.trajectory_] == team
    np.testing.assert_allclose([step.score for step in selector.trajectory_], history, rtol=1e-12)
    assert set(selector.members_) == set(team[: 2 + int(np.argmax(history[1:]))])
    assert selector.teams_tried_ == 28


def test_more_strength_more_diversity():
    p, y = make_probabilities(members=10, rows=200)
    values = [
        diversity(p, y, DiverseGreedy(size=4, strength=s).fit(p, y).members_.tolist(), "BD") for s in (0, 0.5, 1000)
    ]
    assert values == sorted(values)
    assert values[0] < values[2]


@pytest.mark.parametrize("objective", ["nll", "accuracy"])
def test_brute_force_on_ties_and_many_members(objective):
    """Twins tie exactly: the better NLL, the smaller team, the lower indices."""
    p, y = make_probabilities(members=2, rows=30)
    twins = np.concatenate([p[:1]] * 3)
    assert list(BruteForce(objective=objective).fit(twins, y).members_) == [0]
    many = np.concatenate([make_probabilities(members=35, rows=30, seed=s)[0] for s in (0, 0)])
    chosen = BruteForce(objective=objective, size=2).fit(many, y)
    assert chosen.teams_tried_ == 70 * 69 // 2
    teams = itertools.combinations(range(70), 2)
    if objective == "nll":
        assert nll(many, y, chosen.members_) == pytest.approx(min(nll(many, y, t) for t in teams), rel=1e-12)
        assert max(chosen.members_) < 70
    else:
        assert accuracy(many, y, chosen.members_) == max(accuracy(many, y, t) for t in teams)


def test_candidates_are_masks_of_teams():
    p, y = make_probabilities(members=4, rows=100)
    candidates = Focal().fit(p, y).candidates_
    assert set(candidates.tolist()) <= set(all_masks(4).tolist())
    assert mask_of(range(4)) in candidates.tolist()


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (Focal(metric="GDD"), "did you mean 'GD'"),
        (Hierarchical(metric="x"), "Known: BD"),
        (Hierarchical(beta=1.0), "beta 1.0 is not possible"),
        (DiverseGreedy(strength=-1), "strength -1"),
        (DiverseGreedy(metric="EQ"), "unknown diversity metric 'EQ'"),
    ],
)
def test_errors(selector, message):
    with pytest.raises(UserError, match=message):
        selector.fit(*make_probabilities())


@pytest.mark.parametrize(("selector", "most"), [(Focal, 64), (Hierarchical, 24)])
def test_more_members_than_a_bit_mask_holds(selector, most):
    p, y = make_probabilities(members=70, rows=5)
    with pytest.raises(UserError, match=f"takes {most} members at most, not 70: use greedy"):
        selector(size=2).fit(p, y)
