"""A fully trained pool as a `Bench` to replay on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.pool import Pool
from lrensemble.pool.files import read_json
from lrensemble.recommend.runs import expected_seconds, read_runs, spec_features
from lrensemble.training import load_config
from scripts.replay.replay import START, Bench

FEWEST = 10  # members that are worth an order


def read_bench(pool: Pool) -> Bench:
    """The runs of a pool in the order of its configuration; `UserError` where there are too few."""
    runs = read_runs(pool, "val", "test")
    if len(runs.members) < FEWEST or runs.complete.sum() <= START:
        raise UserError(
            f"{pool.path}: {len(runs.members)} finished runs, {int(runs.complete.sum())} of them complete, are too few "
            f"to replay an order of: {FEWEST} are needed, and more than {START} complete"
        )
    order = _configured(pool, [member.id for member in runs.members])
    train_rows = pool.task.rows["train"]
    good = [member for member, complete in zip(runs.members, runs.complete, strict=True) if complete]
    arrays = {
        split: dict(zip([m.id for m in good], pool.predictions(split, good), strict=True)) for split in ("val", "test")
    }

    def predictions(split: str) -> list[Any]:
        uniform = np.full((pool.task.rows[split], len(pool.task.class_names)), 1 / len(pool.task.class_names))
        return [arrays[split].get(runs.members[i].id, uniform) for i in order]

    return Bench.of(
        features=spec_features([runs.specs[i] for i in order], train_rows),
        policies=[runs.specs[i].policy for i in order],
        complete=runs.complete[order],
        val=predictions("val"),
        test=predictions("test"),
        val_labels=pool.labels("val"),
        test_labels=pool.labels("test"),
        seconds=np.array([float(runs.members[i].record.costs.get("seconds", 0.0)) for i in order]),
        expected_seconds=expected_seconds(runs, [runs.specs[i] for i in order], train_rows),
    )


def _configured(pool: Pool, ids: Sequence[str]) -> list[int]:
    """Positions of `ids` in the order in which the configuration lists them, those that it does not list last."""
    path = pool.path / "config.json"
    listed: dict[str, int] = {}
    if path.exists():
        specs = load_config(read_json(path)).specs()
        listed = {spec.id(pool.task.data_fingerprint): i for i, spec in enumerate(specs)}
    return sorted(range(len(ids)), key=lambda i: (listed.get(ids[i], len(listed)), ids[i]))
