"""The task ``choices``: questions with answers to choose from, scored by how likely a language model finds each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeInt
from torch import Tensor

from lrensemble.array import Array
from lrensemble.choices import place_names
from lrensemble.errors import UserError
from lrensemble.tasks.task import SPLITS, Batch, TrainingOptions
from lrensemble.tasks.text.classes import tokenizer_of
from lrensemble.tasks.text.questions import Template, question_rows, read_question, shuffled
from lrensemble.tasks.text.reading import parsed, read_splits
from lrensemble.tasks.text.splitting import Overlap, divide
from lrensemble.tasks.text.task import TextTask, TokenRow, check_length
from lrensemble.tasks.text.tokens import by_length, token_logs

Normalise = Literal["sum", "chars", "bytes", "tokens", "pmi"]
TEMPLATE = "Question: {question}\nAnswer: {choice}"
QUESTION_TOKENS = 256  # of a question with a choice at most
MISSING = -1e9  # score of a choice that a row does not have: its softmax is exactly 0


class ChoiceTask(TextTask):
    """Multiple choice: the score of a choice is the log-likelihood of its tokens after the question.

    Batches have ``ids``, ``mask`` and ``wanted`` (B, S, T), the last true for the tokens of a choice, and ``choices``
    (B, C), which of them a row has, and ``units`` (B, C), what its log-likelihood is divided by. S is C, and for
    ``pmi`` 2 C: behind them the same choices without the question.
    """

    def choices(self, name: str) -> Array | None:
        """(N, C); None where all rows of val and test have all choices."""
        masks = {
            split: np.stack([row.values["choices"] for row in self.rows_of[split]]) for split in {"val", "test", name}
        }
        return masks[name] if not all(masks[split].all() for split in ("val", "test")) else None

    @cached_property
    def notes(self) -> tuple[str, ...]:
        return self._notes  # positions are drawn: it says nothing that one of them is never right

    def collate(self, items: list[TokenRow]) -> Batch:
        batch = super().collate(items)
        first = batch.pop("first")  # token of a choice
        at = torch.arange(batch["ids"].shape[-1])
        return {**batch, "wanted": batch["mask"] & (at >= first[..., None])}

    def scores(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """(B, C)."""
        exists, given = batch["choices"], batch["mask"].any(-1)
        sequences: Batch = {name: batch[name][given] for name in ("ids", "mask", "wanted", "lower") if name in batch}
        likelihoods = by_length(sequences, lambda part: log_likelihoods(model, part))
        every = torch.zeros(given.shape, dtype=likelihoods.dtype, device=given.device)
        every = every.masked_scatter(given, likelihoods)
        scores = every[:, : exists.shape[1]]
        if every.shape[1] > exists.shape[1]:  # pmi
            scores = scores - every[:, exists.shape[1] :]
        return (scores / batch["units"]).masked_fill(~exists, MISSING)

    def loss(
        self, model: Callable[..., Tensor], batch: Batch, training: TrainingOptions
    ) -> tuple[Tensor, Tensor | None]:
        if training.label_smoothing or "weights" in training.loss.parameters:
            raise UserError("training.label_smoothing and weights of classes are not for choices: their order is drawn")
        return super().loss(model, batch, training)


def log_likelihoods(model: Callable[..., Tensor], part: Batch) -> Tensor:
    """Sum of the log-probabilities of the wanted tokens of every sequence, each given those before it: (n,)."""
    sequences = {name: value for name, value in part.items() if name != "wanted"}
    return token_logs(model, sequences, part["wanted"]).sum(1)


def choice_task(
    *,
    root: Path | None = None,
    val: Path | None = None,
    test: Path | None = None,
    tokenizer: str | None = None,
    question: str = "question",
    choices: str = "choices",
    answer: str = "answer",
    template: str = TEMPLATE,
    normalise: Normalise = "sum",
    premise: str = "Answer:",
    shuffle_seed: NonNegativeInt = 0,
    max_length: int = QUESTION_TOKENS,
    rows: Sequence[int] | None = None,
    overlap: Overlap = "refuse",
    skip_broken: bool = False,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
) -> ChoiceTask:
    """Questions, the choices of each, and the number of the right one (from 0, or its letter).

    Parameters
    ----------
    root, val, test, tokenizer : as in `text_task`
    question, choices, answer : names in the rows
    template : what a model reads; spaces before ``{choice}`` belong to the choice, as in lm-evaluation-harness
    normalise : the score of a choice: the ``sum`` of the log-probabilities of its tokens (lm-eval's acc), that divided
        by its ``chars`` (acc_norm), ``bytes`` or ``tokens``, or ``pmi``: minus the sum after `premise` alone (Holtzman
        et al. 2021)
    shuffle_seed : of the order of the choices, drawn for every row: in some files the first one is always right
    max_length : tokens of a question and a choice; of longer ones the beginning of the question is cut off, and how
        many there are is said. A choice is never cut.
    skip_broken : rows that are no questions (two equal choices, no answer, ...) are left out, and counted
    rows, overlap, val_fraction, test_fraction, split_seed : see `divide`
    """
    check_length(max_length)
    form = Template.parse(template)
    found = read_splits(root, "choices", val, test)
    encode = tokenizer_of(tokenizer)
    questions, broken = parsed(found, lambda row: read_question(row, question, choices, answer), skip_broken)
    parts, notes = divide(
        {split: [one.key for one in of] for split, of in questions.items()},
        {split: np.zeros(len(of), dtype=np.int64) for split, of in questions.items()},  # nothing to stratify by
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
        rows=rows,
        overlap=overlap,
        where=root,
    )
    notes = [*broken, *notes]
    most = max(len(questions[source][i].choices) for source, index in parts.values() for i in index)
    splits = {}
    for split, (source, index) in parts.items():
        picked = shuffled([questions[source][i] for i in index], shuffle_seed, SPLITS.index(split))
        splits[split], cut = question_rows(
            picked, encode, form, normalise=normalise, premise=premise, max_length=max_length, most=most
        )
        if cut:
            notes.append(f"{split}: the beginning of {cut:,} of {len(index):,} questions is cut: {max_length} tokens")
    names, options = place_names(most), {"normalise": normalise}
    return ChoiceTask(splits, names, encode, head="tokens", max_length=max_length, options=options, notes=notes)
