"""Tasks of texts: rows of sequences of tokens, which a model makes scores of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.tasks.task import SPLITS, Batch, Task, fingerprint_of
from lrensemble.tasks.text.tokens import Tokenizer, by_length, padded


@dataclass(frozen=True)
class TokenRow:
    """One row as a model sees it.

    Attributes
    ----------
    sequences : of tokens, each (T,): the text, or a question with each of its choices
    y : the number of its class
    values : whatever else of it is in a batch, by name
    """

    sequences: tuple[Array, ...]
    y: int
    values: Mapping[str, Array]


class TextTask(Task):
    """Rows of sequences of tokens. Batches have ``ids`` and ``mask`` (B, [S,] T), padded to their longest, and ``y``.

    Parameters
    ----------
    splits : rows of train, val and test
    head : what a model gives of a sequence: scores of ``classes``, or of the next ``tokens``
    options : what decides, beside the rows, what predictions are of, for the fingerprint
    """

    eval_rows = 128
    caches = True  # what frozen lower layers make of a row may be kept

    def __init__(
        self,
        splits: Mapping[str, Sequence[TokenRow]],
        class_names: Sequence[str],
        tokenizer: Tokenizer,
        *,
        head: str,
        max_length: int,
        options: Mapping[str, Any],
        notes: Sequence[str] = (),
    ) -> None:
        self.rows_of, self.class_names, self.tokenizer = splits, tuple(class_names), tokenizer
        self.facts = {
            "num_classes": len(self.class_names),
            "head": head,
            "vocabulary": tokenizer.vocabulary,
            "tokenizer": tokenizer.hash,
            "longest": max_length,
        }
        self._options = {**options, **self.facts}
        self._notes = tuple(notes)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        return (*super().notes, *self._notes)

    def split(self, name: str) -> TorchDataset[Any]:
        """A dataset of `TokenRow`."""
        return _TokenRows(self.rows_of[name])

    def labels(self, name: str) -> Array:
        """(N,)."""
        return np.array([row.y for row in self.rows_of[name]], dtype=np.int64)

    def collate(self, items: list[TokenRow]) -> Batch:
        count = len(items[0].sequences)
        ids, mask = padded([sequence for row in items for sequence in row.sequences])
        if count > 1:
            ids, mask = ids.view(len(items), count, -1), mask.view(len(items), count, -1)
        values = {name: torch.from_numpy(np.stack([row.values[name] for row in items])) for name in items[0].values}
        return {"ids": ids, "mask": mask, "y": torch.tensor([row.y for row in items]), **values}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all tokens, labels and options in row order."""
        splits = []
        for name in SPLITS:
            rows = self.rows_of[name]
            sequences = [sequence for row in rows for sequence in row.sequences]
            values = {key: np.stack([row.values[key] for row in rows]) for key in rows[0].values}
            lengths = np.array([len(sequence) for sequence in sequences])
            splits.append({"ids": np.concatenate(sequences), "lengths": lengths, "y": self.labels(name), **values})
        return fingerprint_of((*self.class_names, repr(sorted(self._options.items()))), splits)

    def scores(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """Of the classes of every text: (B, C)."""
        sequences: Batch = {name: batch[name] for name in ("ids", "mask", "lower") if name in batch}
        return by_length(sequences, lambda part: model(**part))

    def measure(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Tokens of every row."""
        return {"tokens": batch["mask"].flatten(1).sum(1).float()}


class _TokenRows(TorchDataset[TokenRow]):
    def __init__(self, rows: Sequence[TokenRow]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> TokenRow:
        return self.rows[row]


def check_length(max_length: int) -> None:
    """Raise `UserError` for lengths that no text has."""
    if not 2 <= max_length <= 1_000_000:
        raise UserError(f"data.max_length = {max_length} is not possible: from 2 to 1,000,000 tokens")
