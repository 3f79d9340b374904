"""Expected gain and choices on pools whose right answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lrensemble.metrics import nll_of
from lrensemble.recommend import gain
from lrensemble.recommend.gain import Evidence, _gains, choose, divergence, greedy_weights, spread_out
from lrensemble.selection import make_selector
from tests.recommend.pools import evidence_of, synthetic


def test_gains_against_the_plain_loop():
    rng = np.random.default_rng(0)
    team, true = rng.uniform(0.2, 0.9, 50), rng.uniform(0.01, 0.99, (4, 3, 50)).astype(np.float32)
    gains, shares = _gains(team, true)
    for q in range(4):
        for d in range(3):
            losses = {w: nll_of(team + w * (true[q, d] - team)).mean() for w in (0, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0)}
            best = min(losses, key=losses.get)
            assert gains[q, d] == pytest.approx(losses[0] - losses[best], abs=1e-5)
            assert shares[q, d] == pytest.approx(best)


def test_greedy_of_true_classes_is_greedy():
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(5), (6, 80))
    y = rng.integers(0, 5, 80)
    expected = make_selector("greedy").fit(P, y).weights_
    np.testing.assert_allclose(greedy_weights(P[:, np.arange(80), y]), expected)


def test_high_rates_that_diverged_are_avoided():
    bench = synthetic(seed=1)
    evidence = evidence_of(bench, [0, 5, 9, 14, 19])
    high = bench.features[-4:]
    p = divergence(evidence.features, high, np.vstack([bench.features[:1], high]))
    assert p[0] < 0.3 < 0.5 < p[1:].min()
    assert divergence(evidence.features, evidence.failed, high).max() == 0
    everything_failed = divergence(evidence.failed, high, high)
    np.testing.assert_allclose(everything_failed, 4 / 5)


def test_the_good_region_is_chosen():
    """Quality has its peak at an LR of 10^-1.5; the members known are far from it on both sides, and half-way."""
    bench = synthetic(seed=0)
    known = [0, 3, 8, 22, 27]
    left = [i for i in range(len(bench)) if i not in known]
    chosen = choose(evidence_of(bench, known), bench.features[left], np.ones(len(left)), 3, 0)
    levels = [bench.features[left[i], 0] for i, _ in chosen]
    assert np.abs(np.array(levels) + 1.5).max() < 0.6
    forecast = chosen[0][1]
    assert forecast.gain > 0
    assert 0.5 < forecast.accuracy <= 1
    assert 0 < forecast.disagreement < 0.5


def test_a_surrogate_of_some_members_knows_the_good_region_too(monkeypatch):
    """Of many members it learns from `POINTS`, which span all ranks; the team is still made of all."""
    bench = synthetic(seed=0)
    known, fitted = [i for i in range(len(bench)) if i % 4], []
    left = [i for i in range(len(bench)) if i % 4 == 0]
    fit = gain.fit_surrogate
    monkeypatch.setattr(gain, "fit_surrogate", lambda f, odds, c: fitted.append((f, odds)) or fit(f, odds, c))
    evidence, candidates, seconds = evidence_of(bench, known), bench.features[left], np.ones(len(left))
    everything = choose(evidence, candidates, seconds, 1, 0)
    monkeypatch.setattr(gain, "POINTS", 9)
    of_some = choose(evidence, candidates, seconds, 1, 0)
    (_, odds), (features, thinned) = fitted
    assert len(odds) == len(known) and len(features) == 9
    means = sorted(odds.mean(1))
    assert sorted(thinned.mean(1)) == [means[i] for i in np.linspace(0, len(means) - 1, 9).round().astype(int)]
    assert {tuple(row) for row in features} < {tuple(row) for row in evidence.features}
    levels = [bench.features[left[chosen[0][0]], 0] for chosen in (everything, of_some)]
    assert np.abs(np.array(levels) + 1.5).max() < 0.6


def test_gain_per_second():
    bench = synthetic(seed=0)
    left = np.arange(5, len(bench))
    evidence = evidence_of(bench, range(5))
    (best, _), *_ = choose(evidence, bench.features[left], np.ones(len(left)), 1, 0)
    seconds = np.ones(len(left))
    seconds[best] = 1e6
    (other, _), *_ = choose(evidence, bench.features[left], seconds, 1, 0)
    assert other != best


def test_mixed_is_the_largest_gain_after_an_odd_number_of_runs_else_random_but_not_what_diverges():
    bench = synthetic(seed=0)
    left = np.arange(5, len(bench))
    features, ones = bench.features[left], np.ones(len(left))
    odd = evidence_of(bench, range(5))
    assert choose(odd, features, ones, 1, 0, by="mixed") == choose(odd, features, ones, 1, 0)
    even = evidence_of(bench, range(4))
    first = [choose(even, features, ones, 1, seed, by="mixed")[0][0] for seed in range(20)]
    assert len(set(first)) > 10
    both = [i for i, _ in choose(even, features, ones, len(left), 0, by="mixed")]
    assert sorted(both) == [*range(len(left))]  # nothing is lost on the way
    risky = replace(odd, failed=features[np.argsort(features[:, 1])[-9:]] + 0.01)
    chances = gain.divergence(risky.features, risky.failed, features)
    picks = [choose(risky, features, ones, 1, seed, by="mixed")[0][0] for seed in range(20)]
    assert chances[picks].mean() < chances.mean() - 0.1


def test_with_too_little_known_candidates_are_spread():
    bench = synthetic(seed=0)
    nothing = Evidence(
        bench.features[:0], bench.true[:0], bench.right[:0], bench.features[:0], bench.true[:0], chance=0.25
    )
    chosen = choose(nothing, bench.features, np.ones(len(bench)), 3, 0)
    assert all(forecast.gain is None for _, forecast in chosen)
    levels = sorted(bench.features[[i for i, _ in chosen], 0])
    assert levels[2] - levels[0] > 1  # of 2.5 decades
    # One centre of points on a line is the median.
    line = np.zeros((5, 9))
    line[:, 0] = [0, 1, 2, 3, 10]
    assert spread_out(line[:0], line, 1, np.ones(5)) == [2]
