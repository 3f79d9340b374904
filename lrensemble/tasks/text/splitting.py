"""Which rows of texts are in which split: cut, counted, and none of test in train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError
from lrensemble.tasks.dataset import Parts, cut_missing, cut_rows
from lrensemble.tasks.task import SPLITS

Overlap = Literal["refuse", "drop", "allow"]


def same_text(text: str) -> str:
    """Equal for texts that differ in case and spaces alone."""
    return " ".join(text.casefold().split())


def divide(
    keys: Mapping[str, Sequence[str]],
    labels: Mapping[str, NDArray[Any]],
    *,
    val_fraction: float | None,
    test_fraction: float | None,
    split_seed: int,
    rows: Sequence[int] | None,
    overlap: Overlap,
    where: object,
) -> tuple[Parts, list[str]]:
    """The rows of train, val and test, and what to say of them.

    A text that stands in train again is left out there. One of test (or of a given val) that is in train too is
    refused with the count, dropped from train, or allowed; one of a given val that is in test too likewise, and dropped
    from val. What is not given is cut off train, stratified by label.

    Parameters
    ----------
    keys : of the splits of the files, a text for each row: equal for rows that are the same
    rows : of train, val and test at most so many, drawn by `split_seed`, stratified
    """
    notes = []
    kept = _first_of_each(keys["train"])
    if again := len(keys["train"]) - len(kept):
        notes.append(f"{where}: {again:,} rows of train are there before, and left out")
    for split in [split for split in ("test", "val") if split in keys]:
        known, trained = set(keys[split]), set(keys["train"])
        shared = np.array([keys["train"][i] in known for i in kept])
        if not shared.any():
            continue
        what = f"{sum(key in trained for key in keys[split]):,} of {len(keys[split]):,} {split} rows"
        if overlap == "refuse":
            raise UserError(
                f"{where}: {what} are in train too: data.overlap=drop takes them out of train, "
                "data.overlap=allow keeps them in both"
            )
        if overlap == "drop":
            kept = kept[~shared]
        done = f", where {shared.sum():,} are dropped" if overlap == "drop" else ""
        notes.append(f"{where}: {what} are in train too{done}")
    parts: Parts = {split: (split, np.arange(len(y))) for split, y in labels.items()}
    if (chosen := keys.get("val", ())) and (known := set(keys.get("test", ()))):
        shared = np.array([key in known for key in chosen])
        if shared.any():
            what = f"{shared.sum():,} of {len(chosen):,} val rows are in test too"
            if overlap == "refuse":
                raise UserError(
                    f"{where}: {what}, and val chooses the teams: data.overlap=drop takes them out of val, "
                    "data.overlap=allow keeps them in both"
                )
            if overlap == "drop":
                parts["val"] = ("val", np.flatnonzero(~shared))
                if shared.all():
                    raise UserError(f"{where}: {what}: none is left to choose teams by")
            notes.append(f"{where}: {what}{', and dropped from val' if overlap == 'drop' else ''}")
    parts["train"] = ("train", kept)
    cut_missing(parts, labels, {"test": test_fraction, "val": val_fraction}, split_seed, where)
    if rows is not None:
        if len(rows) != 3 or not all(type(n) is int and n > 0 for n in rows):
            raise UserError(f"data.rows = {list(rows)}: how many rows of train, val and test, as in [600, 150, 150]")
        for split, most in zip(SPLITS, rows, strict=True):
            source, index = parts[split]
            if most > len(index):
                raise UserError(f"data.rows: {most:,} of {split}, but there are {len(index):,}")
            if most < len(index):
                drawn = cut_rows(labels[source][index], most, split_seed, f"data.rows of {split}")[1]
                parts[split] = (source, index[drawn])
    return parts, notes


def _first_of_each(keys: Sequence[str]) -> NDArray[Any]:
    first: dict[str, int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    return np.array(list(first.values()))
