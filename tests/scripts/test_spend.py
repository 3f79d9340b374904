"""Strategies that spend a budget on a bank: what they may see, and that every run is paid for once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lrensemble import load_config
from lrensemble.metrics import correct_rows, summary, true_class
from lrensemble.recommend.features import MEAN, spec_features
from lrensemble.selection import make_selector
from scripts.bench_budget import means
from scripts.replay.bank import bank_specs
from scripts.replay.spend import STRATEGIES, Bank, Deck, score
from tests.conftest import tiny_config

ROWS, CLASSES = 120, 4


def small_bank(seed: int = 0) -> Bank:
    """Cosines with 4 seeds, constant LRs with 2; a mean LR of 10^-1.5 is best, a peak of 1 diverges."""
    written = ["COS(k0=[0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1, 3.16], l=100%)"]
    config = load_config(
        tiny_config(policies=[*written, {"sample": "FIX(k0=log(1e-3, 1))", "n": 15, "seed": 1}], seeds=[0, 1])
    )
    specs = bank_specs(config, {spec.policy: 4 for spec in config.specs() if spec.policy.startswith("COS")})
    features = spec_features(specs, 1010)
    rng = np.random.default_rng(seed)
    labels = {split: rng.integers(0, CLASSES, ROWS) for split in ("val", "test")}
    quality = 3 - 3 * np.abs(features[:, MEAN] + 1.5)

    def predictions(y):
        p = 1 / (1 + np.exp(-(quality[:, None] + rng.normal(size=ROWS) + rng.normal(size=(len(specs), ROWS)))))
        P = np.repeat(((1 - p) / (CLASSES - 1))[..., None], CLASSES, axis=-1)
        P[:, np.arange(ROWS), y] = p
        return P

    val, test = predictions(labels["val"]), predictions(labels["test"])
    runs_of: dict[str, list[int]] = {}
    for i, spec in enumerate(specs):
        runs_of.setdefault(spec.policy, []).append(i)
    return Bank(
        name="small",
        policies=[spec.policy for spec in specs],
        runs_of=runs_of,
        drawn=[policy for policy in runs_of if policy.startswith("FIX")],
        specs=specs,
        features=features,
        complete=features[:, 1] < 0,
        seconds=np.ones(len(specs)),
        expected_seconds=np.ones(len(specs)),
        val=val,
        test=test,
        val_labels=labels["val"],
        test_labels=labels["test"],
        true=np.stack([true_class(p, labels["val"]) for p in val]),
        right=np.stack([correct_rows(p, labels["val"]) for p in val]).astype(bool),
        train_rows=1010,
    )


@pytest.fixture(scope="module")
def bank() -> Bank:
    return small_bank()


HONEST = [name for name in STRATEGIES if "measured" not in name]  # the small bank has no LRTUNER


@pytest.mark.parametrize("name", HONEST)
def test_every_run_is_paid_for_once_and_nothing_untrained_is_seen(bank, name):
    """What is not trained may predict whatever it likes: the first runs stay the same until one of them is."""
    runs = STRATEGIES[name](Deck(bank, 3), 10)
    assert len(runs) == len(set(runs)) == 10
    others = [i for i in range(len(bank.specs)) if i not in runs]
    rng = np.random.default_rng(0)
    changed = {split: getattr(bank, split).copy() for split in ("val", "test")}
    for p in changed.values():
        p[others] = rng.dirichlet(np.ones(CLASSES), p[others].shape[:2])
    complete = bank.complete.copy()
    complete[others] = rng.random(len(others)) < 0.5
    true = np.stack([true_class(p, bank.val_labels) for p in changed["val"]])
    right = np.stack([correct_rows(p, bank.val_labels) for p in changed["val"]])
    elsewhere = replace(bank, **changed, complete=complete, true=true, right=right)
    assert STRATEGIES[name](Deck(elsewhere, 3), 10) == runs
    assert STRATEGIES[name](Deck(bank, 4), 10) != runs


def test_ours_begins_with_the_ladder(bank):
    runs = STRATEGIES["ours"](Deck(bank, 0), 8)
    policies = [bank.specs[i].policy for i in runs]
    assert policies[:5] == [f"COS(k0={k}, l=100%)" for k in ("0.1", "0.01", "1", "0.0316", "0.316")]
    assert set(policies[5:]) < set(policies[:5])


def test_the_score_is_of_the_greedy_team_on_test(bank):
    runs = STRATEGIES["random + greedy"](Deck(bank, 1), 8)
    good = [i for i in runs if bank.complete[i]]
    team = make_selector("greedy").fit(bank.val[good], bank.val_labels)
    expected = summary(team.predict_proba(bank.test[good]), bank.test_labels)
    found = score(bank, runs)
    assert (found.accuracy, found.nll) == pytest.approx((expected["accuracy"], expected["nll"]))
    singles = [float(correct_rows(bank.val[i], bank.val_labels).mean()) for i in good]
    best = good[int(np.argmax(singles))]
    if sorted(singles)[-1] > sorted(singles)[-2]:
        assert found.single_accuracy == correct_rows(bank.test[best], bank.test_labels).mean()
    failed = score(bank, np.flatnonzero(~bank.complete)[:2].tolist())
    assert failed.accuracy == 1 / CLASSES and failed.nll == pytest.approx(np.log(CLASSES))


def test_intervals_are_student(bank):
    found = means(np.array([[1.0], [2.0], [4.0]]))
    half = 4.302653 * np.std([1, 2, 4], ddof=1) / np.sqrt(3)
    assert found["high"][0] - found["mean"][0] == pytest.approx(half, rel=1e-5)
