"""The task ``documents``: texts whose next tokens a language model predicts.

A training row is a window of a document. A validation or test row is one token, with two classes: the token that stands
there, which is always the right one, and any other. So the mean of members' probabilities is that of their
distributions, and a team's NLL a token is -log of the mean of p_m: a pool needs no more of a vocabulary than that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.tasks.task import SPLITS, Batch, TrainingOptions
from lrensemble.tasks.text.classes import tokenizer_of
from lrensemble.tasks.text.reading import parsed, read_splits
from lrensemble.tasks.text.splitting import Overlap, divide, same_text
from lrensemble.tasks.text.task import TextTask, TokenRow, check_length
from lrensemble.tasks.text.tokens import by_length, token_logs

LEAST = 1e-7  # probability of another token: float32 knows no less beside 1
CLASSES = ("as written", "another")


class DocumentTask(TextTask):
    """Batches have ``ids`` and ``mask`` (B, T), of single tokens also ``window`` and ``at`` (B,): which and where."""

    eval_rows = 2048
    caches = False  # rows share their windows: they would be held once a token

    @cached_property
    def notes(self) -> tuple[str, ...]:
        return self._notes

    def split(self, name: str) -> TorchDataset[Any]:
        return super().split(name) if name == "train" else _Tokens(self.rows_of[name])

    def labels(self, name: str) -> Array:
        """(N,), all 0."""
        rows = self.rows_of[name]
        return np.zeros(len(rows) if name == "train" else len(_Tokens(rows)), dtype=np.int64)

    def collate(self, items: list[Any]) -> Batch:
        if not isinstance(items[0], TokenAt):
            return super().collate(items)
        batch = super().collate([item.row for item in items])
        return {
            **batch,
            "window": torch.tensor([item.window for item in items]),
            "at": torch.tensor([item.at for item in items]),
        }

    def _token_logs(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """Log-probability of every token but the first, given those before it: (B, T - 1)."""
        sequences = {"ids": batch["ids"], "mask": batch["mask"]}
        longest = batch["ids"].shape[1]

        def logs(part: Batch) -> Tensor:
            found = token_logs(model, part, part["mask"])
            return torch.nn.functional.pad(found, (0, longest - found.shape[1]))

        return by_length(sequences, logs, most=1024)[:, 1:]

    def scores(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """Of the token as written and any other (B, 2); of a whole window of the mean of its tokens."""
        if "at" not in batch:
            log = -self._losses(model, batch)
        else:
            windows, which = torch.unique_consecutive(batch["window"], return_inverse=True)
            first = torch.tensor([int((which == i).nonzero()[0]) for i in range(len(windows))])
            logs = self._token_logs(model, {name: batch[name][first] for name in ("ids", "mask")})
            log = logs[which, batch["at"] - 1]
        return torch.stack([log, torch.log1p(-log.exp().clamp(max=1 - LEAST))], 1)

    def _losses(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        predicted = batch["mask"][:, 1:]
        return -(self._token_logs(model, batch) * predicted).sum(1) / predicted.sum(1)

    def loss(
        self, model: Callable[..., Tensor], batch: Batch, training: TrainingOptions
    ) -> tuple[Tensor, Tensor | None]:
        """The mean NLL of the tokens of every window."""
        if training.label_smoothing or training.loss.name != "cross_entropy" or training.loss.parameters:
            raise UserError("training.loss and label_smoothing are not for documents: their loss is the NLL of tokens")
        return self._losses(model, batch), None


class TokenAt(NamedTuple):
    """One token of a window."""

    row: TokenRow
    window: int
    at: int


class _Tokens(TorchDataset[TokenAt]):
    """All tokens but the first of every window."""

    def __init__(self, rows: Sequence[TokenRow]) -> None:
        self.rows = rows
        self.ends = np.cumsum([len(row.sequences[0]) - 1 for row in rows])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, token: int) -> TokenAt:
        window = int(np.searchsorted(self.ends, token, side="right"))
        begin = self.ends[window - 1] if window else 0
        return TokenAt(self.rows[window], window, int(token - begin) + 1)


def document_task(
    *,
    root: Path | None = None,
    val: Path | None = None,
    test: Path | None = None,
    tokenizer: str | None = None,
    text: str = "text",
    max_length: int = 256,
    rows: Sequence[int] | None = None,
    overlap: Overlap = "refuse",
    skip_broken: bool = False,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
) -> DocumentTask:
    """Documents for a language model, one a line.

    Parameters
    ----------
    max_length : tokens of a window. Windows share one token, so that all but a document's first are predicted once
    rows : documents of train, val and test
    root, val, test, tokenizer, text, overlap, skip_broken, val_fraction, test_fraction, split_seed : see `text_task`
    """
    check_length(max_length)
    found = read_splits(root, "documents", val, test)
    encode = tokenizer_of(tokenizer)
    texts, broken = parsed(found, lambda row: row.text(text), skip_broken)
    parts, notes = divide(
        {split: [same_text(one) for one in of] for split, of in texts.items()},
        {split: np.zeros(len(of), dtype=np.int64) for split, of in texts.items()},
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
        rows=rows,
        overlap=overlap,
        where=root,
    )
    splits = {}
    for split in SPLITS:
        source, index = parts[split]
        splits[split] = [
            TokenRow((window,), 0, {})
            for ids in encode([texts[source][i] for i in index])
            for window in _windows(ids, max_length)
        ]
        if not splits[split]:
            raise UserError(f"{root}: no document of {split} has two tokens: there is nothing to predict")
    options = {"task": "documents"}
    return DocumentTask(
        splits, CLASSES, encode, head="tokens", max_length=max_length, options=options, notes=[*broken, *notes]
    )


def _windows(ids: Array, most: int) -> list[Array]:
    return [ids[start : start + most] for start in range(0, len(ids) - 1, most - 1)]
