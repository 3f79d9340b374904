"""The task ``text``: texts and their classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.tasks.labels import check_classes, few, in_order
from lrensemble.tasks.task import SPLITS
from lrensemble.tasks.text.reading import TextRow, parsed, read_splits
from lrensemble.tasks.text.splitting import Overlap, divide, same_text
from lrensemble.tasks.text.task import TextTask, TokenRow, check_length
from lrensemble.tasks.text.tokens import Tokenizer

TEXT_TOKENS = 128  # of a text at most


def text_task(
    *,
    root: Path | None = None,
    val: Path | None = None,
    test: Path | None = None,
    tokenizer: str | None = None,
    text: str = "text",
    label: str = "label",
    class_names: Sequence[str] | None = None,
    max_length: int = TEXT_TOKENS,
    rows: Sequence[int] | None = None,
    overlap: Overlap = "refuse",
    skip_broken: bool = False,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
) -> TextTask:
    """Texts and their classes, of JSON lines, CSV or TSV.

    Parameters
    ----------
    root : a file (train), or a folder of ``train.jsonl``, ``test.jsonl`` and so on
    val, test : files of these splits, where they are not in that folder
    tokenizer : folder of a model, or ``package:NAME``; a configuration takes it from the model's ``weights``
    text, label : names in the rows
    class_names : of labels that are numbers from 0
    max_length : tokens; of longer texts the first ones are taken, and how many there are is said
    skip_broken : rows without a text or a label are left out, and counted
    rows, overlap, val_fraction, test_fraction, split_seed : see `divide`
    """
    check_length(max_length)
    found = read_splits(root, "text", val, test)
    encode = tokenizer_of(tokenizer)
    pairs, broken = parsed(found, lambda row: (row.text(text), _label(row, label), row.where), skip_broken)
    labels, names = _classes(pairs, label, class_names)
    parts, notes = divide(
        {split: [same_text(one) for one, _, _ in of] for split, of in pairs.items()},
        labels,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
        rows=rows,
        overlap=overlap,
        where=root,
    )
    check_classes({split: labels[source][index] for split, (source, index) in parts.items()}, names, f"{root}: ")
    splits = {}
    for split, (source, index) in parts.items():
        texts = [pairs[source][i][0] for i in index]
        splits[split], cut = class_rows(texts, labels[source][index].tolist(), encode, max_length)
        if cut:
            notes.append(f"{split}: {cut:,} of {len(texts):,} texts are cut to {max_length} tokens")
    return TextTask(splits, names, encode, head="classes", max_length=max_length, options={}, notes=[*broken, *notes])


def class_rows(
    texts: Sequence[str], labels: Sequence[int], encode: Tokenizer, max_length: int
) -> tuple[list[TokenRow], int]:
    """Rows of texts, and how many were longer and are cut."""
    tokens = encode(texts)
    long = [i for i, ids in enumerate(tokens) if len(ids) > max_length]
    for i, ids in zip(long, encode([texts[i] for i in long], most=max_length) if long else (), strict=True):
        tokens[i] = ids
    return [TokenRow((ids,), y, {}) for ids, y in zip(tokens, labels, strict=True)], len(long)


def tokenizer_of(place: str | None) -> Tokenizer:
    if place is None:
        raise UserError("data.tokenizer is needed: the folder of a model, or package:NAME, as model.weights")
    return Tokenizer(place)


def _classes(
    found: Mapping[str, Sequence[tuple[str, str, str]]], label: str, given: Sequence[str] | None
) -> tuple[dict[str, Array], list[str]]:
    """The classes of all rows (text, label, place) by their numbers, and their names."""
    values = {split: [name for _, name, _ in rows] for split, rows in found.items()}
    names = sorted(set(values["train"]), key=in_order)
    if 2 * len(names) > len(values["train"]):
        raise UserError(f"{label!r} has {len(names):,} different values in {len(values['train']):,} rows of train")
    counts = Counter(values["train"])
    if len(found) < len(SPLITS) and (alone := next((row for row in found["train"] if counts[row[1]] == 1), None)):
        raise UserError(
            f"{alone[2]}: no other row of train has the {label} {alone[1]!r}, so no split can be cut off that has all "
            "classes: correct it, or leave it out"
        )
    numbers = {name: i for i, name in enumerate(names)}
    for rows in found.values():
        if wrong := next((row for row in rows if row[1] not in numbers), None):
            raise UserError(f"{wrong[2]}: {label} is {wrong[1]!r}, classes are {few(names)}")
    if given is not None:
        if [*map(str, range(len(given)))] != names:
            raise UserError(f"data.class_names: {len(given)} names, but the labels are {few(names)}")
        names = [*given]
    return {split: np.array([numbers[v] for v in of], dtype=np.int64) for split, of in values.items()}, names


def _label(row: TextRow, label: str) -> str:
    value = row[label]
    if isinstance(value, float | list | dict) or value is None or not str(value).strip():
        raise UserError(f"{row.where}: {label} is {value!r:.60}: a text or a whole number is needed")
    return str(value).strip()
