"""The decision rule against SciPy, and against itself written as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lrensemble.recommend.iso_accuracy import (
    LEVEL,
    MARGIN,
    WINDOW,
    Curves,
    decide,
    judge,
    non_inferior,
    row_error,
    worth_trying,
)


def curves(seed: int, seeds: int, epochs: int, top: float, pace: float, noise: float) -> Curves:
    rng = np.random.default_rng(seed)
    rise = top * (1 - np.exp(-np.arange(1, epochs + 1) / pace))
    accuracy = np.round(rise + noise * rng.standard_normal((seeds, epochs)), 3)
    return Curves(accuracy, np.cumsum(rng.uniform(0.5, 1.5, (seeds, epochs)), axis=1))


@given(st.integers(0, 10_000), st.integers(2, 8))
def test_without_an_error_by_rows_it_is_the_paired_t_test(seed, seeds):
    candidate, baseline = np.random.default_rng(seed).normal(0.8, 0.01, (2, seeds))
    bound, p = non_inferior(candidate, baseline)
    test = stats.ttest_rel(candidate + MARGIN, baseline, alternative="greater")
    assert p == pytest.approx(test.pvalue, rel=1e-9)
    assert bound == pytest.approx(test.confidence_interval(1 - LEVEL).low - MARGIN, abs=1e-12)
    assert (bound > -MARGIN) == (p < LEVEL)
    wider, larger = non_inferior(candidate, baseline, rows=0.01)
    assert wider < bound and abs(larger - 0.5) < abs(p - 0.5)


def test_what_no_interval_can_be_had_of():
    same = np.full(3, 0.8)
    assert non_inferior(same, same) == (0.0, 0.0)
    assert non_inferior(same - 2 * MARGIN, same)[1] == 1.0
    for candidate in (same[:1], np.array([0.8, math.nan, 0.8])):
        assert non_inferior(candidate, same[: len(candidate)]) == (-math.inf, 1.0)
    assert non_inferior(same, same, rows=math.inf) == (-math.inf, 1.0)


def test_the_error_by_rows_is_that_of_the_share_of_rows_that_differ():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 1, 500)) < 0.8
    only_first, only_second = (first & ~second).sum(), (second & ~first).sum()
    variance = (only_first + only_second - (only_first - only_second) ** 2 / 500) / 499
    assert row_error(first, second) == pytest.approx(math.sqrt(variance / 500))
    # What sampling rows does, by sampling rows.
    right, base = rng.random((2, 3, 400)) < 0.7
    drawn = rng.integers(0, 400, (4000, 400))
    spread = np.std([right[:, rows].mean() - base[:, rows].mean() for rows in drawn])
    assert row_error(right, base) == pytest.approx(spread, rel=0.05)


@given(st.integers(0, 1000), st.integers(2, 12), st.floats(0.001, 0.05))
def test_worth_trying_is_where_seeds_that_vary_as_the_baseline_s_are_just_shown_to_be_as_accurate(seed, seeds, noise):
    baseline = curves(seed, seeds, 10, 0.8, 2.0, noise)
    final = baseline.mean_before(10)
    wanted = worth_trying(baseline)
    # Differences of two independent groups of such seeds have twice their variance.
    spread = math.sqrt(2) * (final - final.mean()) + wanted
    test = stats.ttest_1samp(spread - (final.mean() - MARGIN), 0, alternative="greater")
    assert wanted >= final.mean()
    assert test.pvalue == pytest.approx(LEVEL, abs=1e-6) or (wanted == final.mean() and test.pvalue < LEVEL)


def by_loops(baseline: Curves, candidates: list[Curves], rows: list[float]):
    """The rule as its text says it."""
    seeds, epochs = baseline.accuracy.shape
    ends = [sum(baseline.accuracy[s][-5:]) / 5 for s in range(seeds)]
    target = sum(ends) / seeds

    def first_epoch(i: int, level: float) -> int | None:
        accuracy, error = candidates[i].accuracy, rows[i]
        for e in range(5, accuracy.shape[1] + 1):
            window = [[accuracy[s][i] for i in range(e - 5, e)] for s in range(seeds)]
            if any(not value >= target - 0.005 for line in window for value in line):
                continue
            d = [sum(line) / 5 - end for line, end in zip(window, ends, strict=True)]
            mean = sum(d) / seeds
            se = math.sqrt(sum((x - mean) ** 2 for x in d) / (seeds - 1) / seeds + error**2)
            if mean - stats.t.ppf(1 - level, seeds - 1) * se > -0.005:
                return e
        return None

    firsts: list[int | None] = [None] * len(candidates)
    while True:
        level = 0.05 / max(1, firsts.count(None))
        new = {i: e for i in range(len(candidates)) if firsts[i] is None and (e := first_epoch(i, level))}
        if not new:
            break
        for i, e in new.items():
            firsts[i] = e
    times = {}
    for i, first in enumerate(firsts):
        if first:
            time = sorted(candidates[i].seconds[:, first - 1])
            times[i] = (time[(seeds - 1) // 2] + time[seeds // 2]) / 2
    whole = np.median(baseline.seconds[:, epochs - 1])
    times = {i: time for i, time in times.items() if time < whole}
    return target, firsts, min(times, key=times.get) if times else None


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10_000),
    st.integers(2, 5),
    st.lists(st.tuples(st.integers(5, 25), st.floats(0.6, 1.0), st.floats(0.5, 8)), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.002, 0.02]),
)
def test_the_decision_is_what_its_text_says(seed, seeds, kinds, noise):
    baseline = curves(seed, seeds, 20, 0.8, 4, noise + 1e-3)
    candidates = [curves(seed + 1 + i, seeds, e, top, pace, noise) for i, (e, top, pace) in enumerate(kinds)]
    rows = [0.001 * (1 + i) for i in range(len(candidates))]
    decision = decide(baseline, candidates, rows)
    target, firsts, fastest = by_loops(baseline, candidates, rows)
    assert decision.target == pytest.approx(target)
    assert [verdict.epoch for verdict in decision.verdicts] == firsts
    assert decision.fastest == fastest


def test_a_run_that_died_is_never_as_accurate():
    baseline = curves(0, 3, 20, 0.7, 3, 1e-3)
    better = curves(1, 3, 20, 0.9, 2, 1e-3)
    assert decide(baseline, [better], [0.0]).fastest == 0
    better.accuracy[1, 4:] = math.nan
    decision = decide(baseline, [better], [0.0])
    assert decision.fastest is None and not decision.verdicts[0].holds


def test_holm_takes_back_what_one_alone_would_be_granted():
    rng = np.random.default_rng(3)
    baseline = Curves(np.full((3, WINDOW), 0.8) + rng.normal(0, 1e-4, (3, WINDOW)), np.full((3, WINDOW), 10.0))
    near = Curves(baseline.accuracy + np.array([[0.001], [0.004], [0.007]]), np.full((3, WINDOW), 5.0))
    assert decide(baseline, [near], [0.0]).fastest == 0
    assert 0.01 < judge(near, WINDOW, baseline).p < 0.05
    assert decide(baseline, [near] * 6, [0.0] * 6).fastest is None


@given(st.integers(0, 1000), st.floats(0.5, 0.9))
def test_time_to_a_target(seed, target):
    found = curves(seed, 3, 15, 0.8, 4, 0.02)
    times = [
        sorted(found.seconds[:, e - 1])[1]
        for e in range(WINDOW, 16)
        if np.mean([found.accuracy[:, i] for i in range(e - WINDOW, e)]) >= target - MARGIN
    ]
    assert found.time_to(target) == (times[0] if times else math.inf)
