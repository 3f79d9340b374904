"""The tokenizer of a model's folder, and sequences of tokens as batches that are padded on the right."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrensemble.array import Array
from lrensemble.errors import UserError, first_line
from lrensemble.installing import needed
from lrensemble.lengths import TOKENS, alike
from lrensemble.model_folder import TOKENIZER, find_folder, tokenizer_hash
from lrensemble.tasks.task import Batch

PADDING = 0  # a token that no model attends to: `mask` says what is one


class Tokenizer:
    """Texts to numbers of tokens.

    Parameters
    ----------
    place : folder of a model, or ``package:NAME``

    Attributes
    ----------
    vocabulary : how many tokens there are
    hash : of the file that it was read from
    """

    def __init__(self, place: str | Path) -> None:
        folder = find_folder(place, "data.tokenizer")
        if not (folder / TOKENIZER).is_file():
            raise UserError(f"data.tokenizer: {folder} has no {TOKENIZER}: transformers' save_pretrained writes it")
        with needed("texts need a tokenizer", "llm"):
            tokenizers: Any = importlib.import_module("tokenizers")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # tokenizers has no class of its own for them
            raise UserError(f"{folder / TOKENIZER}: cut off or damaged ({first_line(error)})") from None
        self._tokenizer.no_padding()  # files may ask for both
        self._tokenizer.no_truncation()
        self.vocabulary: int = self._tokenizer.get_vocab_size()
        self.hash = tokenizer_hash(folder)

    def __call__(self, texts: Sequence[str], *, special: bool = True, most: int | None = None) -> list[Array]:
        """Tokens of every text, with those that the model wants around them (`special`), `most` at most."""
        if most is not None:
            self._tokenizer.enable_truncation(most)
        try:
            encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=special)
        except Exception as error:  # more special tokens than `most`
            raise UserError(f"data.max_length = {most} is not possible: {first_line(error)}") from None
        finally:
            self._tokenizer.no_truncation()
        return [np.array(one.ids, dtype=np.int64) for one in encoded]

    def decode(self, tokens: Array) -> str:
        """The text of tokens, without those that only the model wants."""
        text: str = self._tokenizer.decode(tokens.tolist())
        return text


def padded(sequences: Sequence[Array]) -> tuple[Tensor, Tensor]:
    """Sequences as rows of one length: ``ids`` and ``mask`` (n, T); where `mask` is 0 there is nothing."""
    longest = max(map(len, sequences), default=0)
    ids = np.full((len(sequences), longest), PADDING, dtype=np.int64)
    mask = np.zeros((len(sequences), longest), dtype=bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)], mask[row, : len(sequence)] = sequence, True
    return torch.from_numpy(ids), torch.from_numpy(mask)


def by_length(sequences: Mapping[str, Tensor], forward: Callable[[Batch], Tensor], most: int = TOKENS) -> Tensor:
    """What `forward` gives of sequences (n, T, ...), one or more numbers each: (n, ...).

    Without gradients those of similar lengths are taken together, at most `most` tokens at a time, each piece no longer
    than its longest; with them all at once.
    """
    lengths = sequences["mask"].sum(1)
    if torch.is_grad_enabled() or not len(lengths):
        return forward(_part(sequences, slice(None), lengths))
    pieces = [torch.tensor(piece, device=lengths.device) for piece in alike(lengths.tolist(), most)]
    found = [forward(_part(sequences, piece, lengths)) for piece in pieces]
    return torch.cat(found)[torch.cat(pieces).argsort()]


def token_logs(model: Callable[..., Tensor], sequences: Batch, wanted: Tensor) -> Tensor:
    """Log-probabilities of the `wanted` tokens (n, T), each given those before it, in float32; 0 for others.

    The model is asked for the logits of their places alone: an output layer of 49,152 tokens costs as much as eight
    of SmolLM2's layers.
    """
    keep = torch.nn.functional.pad(wanted[:, 1:], (0, 1))
    logits = model(**sequences, keep=keep).float()  # (kept, V), in whatever precision
    found = logits.gather(1, sequences["ids"][:, 1:][keep[:, :-1], None])[:, 0] - logits.logsumexp(1)
    return torch.zeros(wanted.shape, device=found.device).masked_scatter(keep.roll(1, 1), found)


def _part(sequences: Mapping[str, Tensor], rows: Any, lengths: Tensor) -> Batch:
    longest = int(lengths[rows].max()) if len(lengths) else 0
    return {name: value[rows][:, :longest] for name, value in sequences.items()}
