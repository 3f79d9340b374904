"""A pool that version 0.1.0 of November 2026 wrote (commit 9366d0a) opens, and everything goes on with it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lrensemble import Pool, evaluate, load_config, load_task, select_teams, train_pool

FIXTURES = Path(__file__).parent.parent / "fixtures"
CONFIGS = Path(__file__).parent.parent.parent / "configs"
RUNS = {
    "6f6bb9ed3b": "COS(k0=0.1, l=100%)",
    "161101d76f": "FIX(k0=0.05)",
    "5bc5c6c97c": "STEP(k0=0.1, gamma=0.3, l=25%)",
}
# Member ids of every shipped configuration on data with the fingerprint "ffff...": hash of all of them.
SHIPPED = {
    "breast_cancer.yaml": (8, "28c7591db1f1afee"),
    "cifar10.yaml": (16, "c9df732859e50b83"),
    "cifar100.yaml": (16, "cb79ffeea2661dd3"),
    "cifar100_lenet.yaml": (16, "f478e6c9a9b8053a"),
    "digits.yaml": (14, "b7451a5a9707a7b2"),
    "fashion_mnist.yaml": (18, "ea1d33a5f438637e"),
    "replay_cifar100.yaml": (39, "e579a250b2e14c89"),
    "replay_digits.yaml": (130, "5cdf8c1d3c913481"),
    "replay_fashion_mnist.yaml": (65, "83bcf4e199b2001d"),
    "verify_digits.yaml": (156, "7b256b7383613b44"),
    "verify_digits_short.yaml": (60, "4818a94b736c2a10"),
    "verify_fashion_mnist.yaml": (60, "e9bddb9d0fd9d1bf"),
}


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool.open(shutil.copytree(FIXTURES / "old_pool", tmp_path / "pool"))


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_it_opens(pool):
    assert {m.id: m.record.spec.policy for m in pool.complete if m.record.parent is None} == RUNS
    assert [m.record.spec.label for m in pool.complete if m.record.parent] == ["COS(k0=0.1, l=100%) snapshot(epoch=2)"]
    assert pool.member_of(pool.find("161101d76f").record.spec).id == "161101d76f"
    assert np.asarray(pool.predictions("val")).shape == (4, 135, 10)
    assert load_task("digits").fingerprint == pool.task.data_fingerprint == "e9ad3231ec7fbe6eee1028143e9f0380"


def test_it_is_evaluated_with_equal_numbers(pool):
    """Accuracy and NLL on test, from the stored predictions by hand and as the version of then printed them."""
    stored = json.loads((FIXTURES / "old_pool" / "evaluations" / "top-k.json").read_text())
    result = evaluate(pool)
    scores = {score.name: score for score in result.scores}
    best = np.load(pool.find("5bc5c6c97c").path / "predictions" / "test.npy")
    right = best.argmax(1) == pool.labels("test")
    assert scores["top-k"].accuracy == right.mean() == 0.8622222222222222
    assert scores["top-k"].nll == pytest.approx(0.4754529768310896, rel=1e-12)
    assert scores["all"].accuracy == 0.8955555555555555
    assert scores["all"].nll == pytest.approx(0.600928687810919, rel=1e-12)
    assert stored["score"]["accuracy"] == scores["top-k"].accuracy


def test_it_selects_the_same_teams(pool):
    before = {team.name: team for team in pool.teams}
    teams = select_teams(pool, ["greedy", "top-k"])
    for team in teams:
        assert team.members == pytest.approx(before[team.name].members)
        assert team.validation == pytest.approx(before[team.name].validation)


def test_training_goes_on(pool):
    """What is there stays bit for bit as it is, and one more policy is one more member."""
    kept = hashes(pool.path / "members")
    config = load_config(FIXTURES / "old_pool.yaml", ["training.epochs=4"])
    more = config.model_copy(update={"policies": (*config.policies, "FIX(k0=0.02)")})
    pool = train_pool(more, pool.path, workers=1, threads=1, devices="cpu")
    assert len(pool.complete) == 5
    assert kept.items() <= hashes(pool.path / "members").items()


def test_trained_anew_it_has_the_same_weights(pool, tmp_path):
    """Up to the rounding of another processor's kernels."""
    anew = train_pool(load_config(FIXTURES / "old_pool.yaml"), tmp_path / "anew", workers=1, threads=1, devices="cpu")
    for member_id in RUNS:
        before, after = pool.find(member_id).weights(), anew.find(member_id).weights()
        for name, value in before.items():
            torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SHIPPED)
def test_member_ids_of_shipped_configurations(name):
    ids = [spec.id("f" * 32) for spec in load_config(CONFIGS / name).specs()]
    assert (len(ids), hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]) == SHIPPED[name]
