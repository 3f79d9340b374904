"""Synthetic pools: 30 constant LRs whose quality has its peak at 10^-1.5, with errors of their own."""

from __future__ import annotations

import numpy as np

from lrensemble.recommend.features import NAMES
from scripts.replay.replay import Bench, known


def synthetic(seed: int, members: int = 30, rows: int = 200, classes: int = 4, diverged: int = 0) -> Bench:
    """LRs from 10^-2.75 to 10^-0.25, the highest `diverged` of which diverge."""
    rng = np.random.default_rng(seed)
    levels = np.linspace(-2.75, -0.25, members)
    features = np.zeros((members, len(NAMES)))
    features[:, :3] = levels[:, None]
    labels = {split: rng.integers(0, classes, rows) for split in ("val", "test")}
    hard = rng.normal(size=rows)

    def predictions(y):
        odds = 3 - 3 * np.abs(levels + 1.5)[:, None] + hard + rng.normal(size=(members, rows))
        p = 1 / (1 + np.exp(-odds))
        P = np.repeat(((1 - p) / (classes - 1))[..., None], classes, axis=-1)
        P[:, np.arange(rows), y] = p
        return P

    return Bench.of(
        features=features,
        policies=[f"FIX(k0={10**level:.4g})" for level in levels],
        complete=np.arange(members) < members - diverged,
        val=predictions(labels["val"]),
        test=predictions(labels["test"]),
        val_labels=labels["val"],
        test_labels=labels["test"],
        seconds=np.ones(members),
        expected_seconds=np.ones(members),
    )


def evidence_of(bench, trained):
    return known(bench, list(trained)).evidence
