"""A fully trained pool as a `Bench` to replay on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.pool import Pool
from lrensemble.pool.files import read_json
from lrensemble.recommend.features import spec_features
from lrensemble.recommend.runs import are_complete, expected_seconds, followed, read_runs, took
from lrensemble.training import load_config
from scripts.replay.replay import START, Bench

FEWEST = 10  # members that are worth an order


def read_bench(pool: Pool) -> Bench:
    """The runs of a pool in the order of its configuration; `UserError` where there are too few."""
    members = read_runs(pool, "val", "test")
    specs, complete = followed(members), are_complete(members)
    if len(members) < FEWEST or complete.sum() <= START:
        raise UserError(
            f"{pool.path}: {len(members)} finished runs, {int(complete.sum())} of them complete, are too few "
            f"to replay an order of: {FEWEST} are needed, and more than {START} complete"
        )
    order = _configured(pool, [member.id for member in members])
    train_rows = pool.task.rows["train"]
    good = [member for member, good in zip(members, complete, strict=True) if good]
    arrays = {
        split: dict(zip([m.id for m in good], pool.predictions(split, good), strict=True)) for split in ("val", "test")
    }

    def predictions(split: str) -> list[Any]:
        uniform = np.full((pool.task.rows[split], len(pool.task.class_names)), 1 / len(pool.task.class_names))
        return [arrays[split].get(members[i].id, uniform) for i in order]

    return Bench.of(
        features=spec_features([specs[i] for i in order], train_rows),
        policies=[specs[i].policy for i in order],
        complete=complete[order],
        val=predictions("val"),
        test=predictions("test"),
        val_labels=pool.labels("val"),
        test_labels=pool.labels("test"),
        seconds=np.array([float(members[i].record.costs.get("seconds", 0.0)) for i in order]),
        expected_seconds=expected_seconds(specs, took(members), [specs[i] for i in order], train_rows),
    )


def _configured(pool: Pool, ids: Sequence[str]) -> list[int]:
    """Positions of `ids` in the order in which the configuration lists them, those that it does not list last."""
    path = pool.path / "config.json"
    listed: dict[str, int] = {}
    if path.exists():
        specs = load_config(read_json(path)).specs()
        listed = {spec.id(pool.task.data_fingerprint): i for i, spec in enumerate(specs)}
    return sorted(range(len(ids)), key=lambda i: (listed.get(ids[i], len(listed)), ids[i]))
