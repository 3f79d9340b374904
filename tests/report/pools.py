"""Pools without training: members of known quality, as a user's own loop or an import would leave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lrensemble import Pool


def synthetic_pool(
    path: Path,
    members: int,
    *,
    classes: int = 10,
    rows: int = 200,
    histories: bool = True,
    policies: bool = True,
    names: list[str] | None = None,
    seed: int = 0,
) -> Pool:
    """A pool whose members are right on rows that are partly the same, partly their own."""
    rng = np.random.default_rng(seed)
    labels = {split: np.concatenate([np.arange(classes), rng.integers(0, classes, rows)]) for split in ("val", "test")}
    pool = Pool.create(path, labels=labels, class_names=names or [f"class {i}" for i in range(classes)])
    common = {split: rng.normal(0, 1, (len(y), classes)) for split, y in labels.items()}
    for i in range(members):
        policy = f"COS(k0={0.02 + 0.001 * i:.3f}, l=100%)" if policies else None
        with pool.member(model={"name": "net", "width": 8}, policy=policy, seed=i) as member:
            if histories:
                for epoch in range(1, 21):
                    rate = (0.02 + 0.001 * i) * (1 - epoch / 21)
                    member.log(
                        epoch=epoch,
                        step=10 * epoch,
                        lr=rate,
                        train_loss=1 / epoch,
                        val_loss=1 / epoch + rng.random() / 10,
                        val_accuracy=1 - 0.5 / epoch,
                    )
                member.costs(parameters=1000 + i, flops=2000 + i, steps=200)
            for split, y in labels.items():
                logits = common[split] + rng.normal(0, 1, common[split].shape)
                logits[np.arange(len(y)), y] += 2.5 + rng.normal(0, 0.2)
                member.predict(**{split: logits}, kind="logits")
    return pool
