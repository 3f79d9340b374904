"""Metrics by name: against scikit-learn, and what is wrong with one in one line."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from lrensemble import UserError, register_metric
from lrensemble.metrics import METRICS, PredictionMetric, find_metric, load_metric, register_metrics, resampled
from tests.selection.oracles import make


def data(classes: int = 4, rows: int = 80, present: int = 3):
    """Predictions of `classes` classes with ties; labels of the first `present` alone."""
    p, _ = make(1, rows, classes, seed=classes)
    p = np.round(p[0].astype(float), 2)
    return p / p.sum(1, keepdims=True), np.random.default_rng(1).integers(0, present, rows)


@pytest.mark.parametrize("classes", [2, 4])
def test_metrics_equal_scikit_learn(classes: int):
    p, y = data(classes, present=2 if classes == 2 else 3)
    oracles = {
        "accuracy": sk.accuracy_score(y, p.argmax(1)),
        "nll": sk.log_loss(y, p, labels=range(classes)),
        "brier": ((p - np.eye(classes)[y]) ** 2).sum(1).mean(),
        "balanced_accuracy": sk.balanced_accuracy_score(y, p.argmax(1)),
        "macro_f1": sk.f1_score(y, p.argmax(1), average="macro"),
        "auroc": np.mean([sk.roc_auc_score(y == c, p[:, c]) for c in np.unique(y)]),
    }
    for name, value in oracles.items():
        assert find_metric(name)(p, y) == pytest.approx(value, abs=1e-12), name
    worst = p[:, ::-1]
    for name in METRICS:
        if name not in ("ece", "adaptive_ece") and ":" not in name:
            metric = find_metric(name)
            good = metric(np.eye(classes)[y] * 0.9 + 0.1 / classes, y)
            assert metric.sign * good > metric.sign * metric(worst, y), name


def test_resampling_is_paired_and_has_the_right_standard_error():
    p, y = data(4, 400)
    metric = find_metric("accuracy")
    values = resampled(metric, p, y)
    np.testing.assert_array_equal(values, resampled(metric, p, y))
    right = (p.argmax(1) == y).mean()
    assert values.std(ddof=1) == pytest.approx(np.sqrt(right * (1 - right) / 400), rel=0.15)
    # The same rows for all: two votes that differ nowhere differ nowhere on a resample.
    assert not (resampled(metric, p, y) - resampled(metric, p**2 / (p**2).sum(1, keepdims=True), y)).any()


def changes_its_input(p, y):
    p[0] = 0
    return 1.0


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda p, y: 1 / 0, "metric bad raises ZeroDivisionError: division by zero"),
        (lambda p, y: None, "metric bad returns None: one number is needed"),
        (lambda p, y: "0.5", "metric bad returns '0.5': one number is needed"),
        (lambda p, y: True, "metric bad returns True"),
        (lambda p, y: p.max(1), r"metric bad returns an array of shape \(80,\)"),
        (lambda p, y: float("nan"), "metric bad is nan here"),
        (lambda p, y: [1, [2]], "metric bad raises ValueError"),
        (changes_its_input, "metric bad raises ValueError: assignment destination is read-only"),
    ],
)
def test_a_metric_that_gives_no_number_is_named(function, words):
    with pytest.raises(UserError, match=words):
        PredictionMetric("bad", function)(*data())


def test_names(monkeypatch, tmp_path):
    monkeypatch.setattr(METRICS, "_values", dict(METRICS))
    with pytest.raises(UserError, match="unknown metric 'macrof1': did you mean 'macro_f1'"):
        find_metric("macrof1")
    with pytest.raises(UserError, match="metric brier is defined twice: by lrensemble and by"):
        register_metric("brier")(lambda p, y: 1.0)
    with pytest.raises(UserError, match="letters, digits and _ are needed"):
        register_metric("my metric")(lambda p, y: 1.0)
    # A module of the user's is imported where a name is given, and nowhere else.
    (tmp_path / "own_named.py").write_text(
        "from lrensemble import register_metric\n"
        "def plain(p, y):\n    return 3\n"
        "@register_metric('error_share', greater_is_better=False)\n"
        "def decorated(p, y):\n    return (p.argmax(1) != y).mean()\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"metric own_named:plain is not computed: .* runs plain of .*own_named.py"):
        find_metric("own_named:plain")
    assert "error_share" not in METRICS
    p, y = data()
    assert load_metric("own_named:plain")(p, y) == find_metric("own_named:plain")(p, y) == 3
    error = load_metric("own_named:decorated")
    assert (error.sign, error(p, y)) == (-1, pytest.approx(1 - sk.accuracy_score(y, p.argmax(1))))
    assert find_metric("error_share").sign == -1
    with pytest.raises(UserError, match="metric own_named:plane: did you mean 'plain'"):
        load_metric("own_named:plane")


def test_what_a_task_brings_has_a_name_that_others_can_import(monkeypatch):
    monkeypatch.setattr(METRICS, "_values", dict(METRICS))
    assert register_metrics({"half": lambda p, y: 0.5, "hit": sk.zero_one_loss}) == [
        "half",
        "sklearn.metrics._classification:zero_one_loss",
    ]
    assert find_metric("half")(*data()) == 0.5
    assert find_metric("hit").function is sk.zero_one_loss
