"""Tests and intervals against statsmodels and SciPy, and whether 95 % intervals hold the truth in 95 % of the cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import contingency_tables, multitest, proportion

from lrensemble import metrics
from lrensemble.evaluation.paired import FEW, PairedRows, RowScores

SETS = 2000  # simulated test sets: the standard error of a coverage of 95 % is 0.5 points


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (9, 2), (30, 18), (4, 4), (300, 250)])
def test_mcnemar_equals_statsmodels(wins, losses):
    first = np.array([1] * wins + [0] * losses + [1, 0] * 50)
    second = np.array([0] * wins + [1] * losses + [1, 0] * 50)
    found = metrics.mcnemar(first, second)
    assert (found.only_first, found.only_second) == (wins, losses)
    oracle = contingency_tables.mcnemar([[50, wins], [losses, 50]], exact=True)
    n = wins + losses
    assert found.exact == pytest.approx(oracle.pvalue if n else 1.0)
    half = stats.binom.pmf(min(wins, losses), n, 0.5)
    # Fagerland et al. 2013: once the probability of the table itself is taken off.
    assert found.mid_p == pytest.approx(found.exact - half if wins != losses else 1.0)
    assert metrics.mcnemar(second, first).mid_p == found.mid_p


def test_holm_equals_statsmodels():
    p = [0.01, 0.04, 0.03, 0.5, 0.03, 0.001]
    assert metrics.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert metrics.holm([]) == []
    assert metrics.holm([0.2]) == [0.2]


@pytest.mark.parametrize(("right", "rows"), [(0, 1), (1, 1), (450, 450), (440, 450), (9000, 10_000)])
def test_share_interval_equals_statsmodels(right, rows):
    found = metrics.share_interval(right, rows)
    assert found == pytest.approx(proportion.proportion_confint(right, rows, method="wilson"), abs=1e-9)
    assert found[1] - found[0] > 0  # also when all are right


def exact_coverage(rows: int, p: float) -> float:
    """Of the intervals of a share, summed over all outcomes."""
    counts = np.arange(rows + 1)
    inside = [low <= p <= high for low, high in (metrics.share_interval(int(k), rows) for k in counts)]
    return float(stats.binom.pmf(counts, rows, p) @ inside)


@pytest.mark.parametrize(("rows", "p"), [(450, 0.9), (450, 0.98), (1000, 0.95), (100, 0.9), (300, 0.5)])
def test_intervals_of_an_accuracy_cover(rows, p):
    assert 0.93 <= exact_coverage(rows, p) <= 0.97


def test_intervals_of_an_accuracy_near_one():
    """Wilson's interval is known to dip where n (1 - p) is small; a bootstrap interval fails there altogether."""
    wilson = {p: exact_coverage(100, p) for p in (0.97, 0.99, 0.995)}
    assert min(wilson.values()) > 0.9
    rng = np.random.default_rng(0)
    right = (rng.random((SETS, 100)) < 0.995).astype(float)
    assert bootstrap_coverage(right, 0.995) < 0.5  # all right in 61 % of the sets: an interval of width 0


def bootstrap_coverage(rows: np.ndarray, truth: float) -> float:
    """Share of the simulated test sets (SETS, N) whose percentile interval of the mean holds the truth."""
    samples = metrics.bootstrap_means(rows, resamples=1000)
    intervals = [metrics.percentile_interval(samples[:, i]) for i in range(len(rows))]
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def paired(rng: np.random.Generator, wins: float, losses: float, rows: int) -> np.ndarray:
    """Differences of correctness (SETS, rows) of two teams."""
    return rng.choice([1.0, -1.0, 0.0], size=(SETS, rows), p=[wins, losses, 1 - wins - losses])


@pytest.mark.parametrize(("wins", "losses", "rows"), [(0.06, 0.04, 500), (0.1, 0.1, 300), (0.04, 0.02, 1000)])
def test_paired_bootstrap_covers_differences_of_accuracy(wins, losses, rows):
    rng = np.random.default_rng(1)
    assert 0.93 <= bootstrap_coverage(paired(rng, wins, losses, rows), wins - losses) <= 0.97


def test_paired_bootstrap_covers_differences_of_nll():
    """Skewed and with a heavy tail, as losses are."""
    rng = np.random.default_rng(2)
    differences = rng.normal(0.01, 0.05, (SETS, 500)) + rng.exponential(0.3, (SETS, 500)) * (
        rng.random((SETS, 500)) < 0.1
    )
    assert 0.93 <= bootstrap_coverage(differences, 0.01 + 0.3 * 0.1) <= 0.97


@pytest.mark.parametrize(("wins", "losses", "rows"), [(0.02, 0.01, 100), (0.01, 0.002, 450), (0.05, 0.02, 100)])
def test_few_rows_that_differ_need_another_interval(wins, losses, rows):
    """Fewer than `FEW` on average: there the bootstrap covers too little, Bonett and Price's interval does not."""
    assert rows * (wins + losses) < FEW
    rng = np.random.default_rng(3)
    differences = paired(rng, wins, losses, rows)
    truth = wins - losses
    assert bootstrap_coverage(differences, truth) < 0.93
    counts = [((row > 0).sum(), (row < 0).sum()) for row in differences]
    intervals = [metrics.paired_interval(int(b), int(c), rows) for b, c in counts]
    assert np.mean([low <= truth <= high for low, high in intervals]) >= 0.94


def test_paired_interval_by_hand():
    """Bonett & Price 2012: one added to each of the two counts, two to the rows."""
    low, high = metrics.paired_interval(12, 4, 98)
    p, q = 13 / 100, 5 / 100
    margin = 1.959964 * np.sqrt((p + q - (p - q) ** 2) / 100)
    assert (low, high) == pytest.approx((p - q - margin, p - q + margin), rel=1e-6)
    assert metrics.paired_interval(0, 0, 1)[1] <= 1


@pytest.mark.parametrize("wins", [FEW - 5, FEW - 4])
def test_few_rows_that_differ_have_another_interval(wins: int):
    """Bonett and Price's below 20 rows that tell two votes apart (4 lost), the bootstrap's from 20 on."""
    assert FEW == 20
    first, second = np.ones(400), np.ones(400)
    second[:wins], first[-4:] = 0, 0
    rows = PairedRows([RowScores(row, 1 - row) for row in (first, second)])
    gain = rows.accuracy_gain(0, 1)
    exact = [100 * x for x in metrics.paired_interval(wins, 4, 400)]
    sampled = metrics.percentile_interval(100 * (rows.samples[:, 0] - rows.samples[:, 1]))
    assert (gain.low, gain.high) == pytest.approx(exact if wins + 4 < 20 else sampled, rel=1e-12)
    assert sampled != pytest.approx(exact, rel=1e-3)
