"""Questions with choices, from rows of files, and as sequences of tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lrensemble.choices import LETTERS, balanced_places
from lrensemble.errors import UserError
from lrensemble.tasks.text.reading import TextRow
from lrensemble.tasks.text.splitting import same_text
from lrensemble.tasks.text.task import TokenRow
from lrensemble.tasks.text.tokens import Tokenizer


@dataclass(frozen=True)
class Question:
    """A question, its choices and the number of the right one."""

    text: str
    choices: tuple[str, ...]
    answer: int
    where: str

    @property
    def key(self) -> str:
        """Equal for the same question with the same right answer: whatever else is offered, it has been learnt."""
        return "\n".join(map(same_text, [self.text, self.choices[self.answer]]))


def shuffled(questions: Sequence[Question], *seed: int) -> list[Question]:
    """The same with their choices in drawn orders, the right ones at `balanced_places`."""
    rng = np.random.default_rng(seed)
    counts = np.array([len(one.choices) for one in questions])
    places = balanced_places(counts, rng.permutation(len(questions)))
    moved = []
    for one, place in zip(questions, places.tolist(), strict=True):
        order = rng.permutation([i for i in range(len(one.choices)) if i != one.answer]).tolist()
        order.insert(place, one.answer)
        moved.append(Question(one.text, tuple(one.choices[i] for i in order), place, one.where))
    return moved


def read_question(row: TextRow, question: str, choices: str, answer: str | None) -> Question:
    """The question of a row; choices in a table are a JSON list, the answer is a number from 0 or a letter.

    Without `answer` nothing is said of it, and the first counts as right.
    """
    listed = row[choices]
    if isinstance(listed, str):
        try:
            listed = json.loads(listed)
        except (ValueError, RecursionError):
            raise UserError(f"{row.where}: {choices} is {listed!r:.60}: a JSON list is needed") from None
    if not isinstance(listed, list) or not all(isinstance(one, str) and one.strip() for one in listed):
        raise UserError(f"{row.where}: {choices} is {listed!r:.60}: a list of texts is needed")
    if len(listed) < 2:
        raise UserError(f"{row.where}: {len(listed)} choices, at least 2 are needed")
    listed = tuple(one.strip() for one in listed)
    if twice := next((one for i, one in enumerate(listed) if one in listed[:i]), None):
        raise UserError(f"{row.where}: two choices are {twice!r:.60}: leave the row out, or make them differ")
    text = row.text(question).strip()
    if answer is None:
        return Question(text, listed, 0, row.where)
    right = row.values.get("labels")
    if isinstance(right, list) and sum(map(bool, right)) > 1:
        raise UserError(f"{row.where}: {sum(map(bool, right))} right answers: rows with one are needed (mc1)")
    number = _number(row[answer])
    if number is None or not 0 <= number < len(listed):
        most = len(listed) - 1
        raise UserError(f"{row.where}: {answer} is {row[answer]!r:.60}: a number from 0 to {most}, or a letter")
    return Question(text, listed, number, row.where)


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        value = value.strip()
        if value.isascii() and value.isdecimal():
            return int(value[:9])
        return LETTERS.index(value) if len(value) == 1 and value in LETTERS else None
    return value if type(value) is int else None


class Template(NamedTuple):
    """What a model reads: `context` with ``{question}``, then a choice with the `space` before it and what `follows`.

    Spaces before a choice belong to it, as in lm-evaluation-harness: tokenizers keep them with the word behind.
    """

    context: str
    space: str
    follows: str

    @classmethod
    def parse(cls, text: str) -> Template:
        before, found, follows = text.partition("{choice}")
        context = before.rstrip(" ")
        if not found or "{choice}" in follows or "{question}" not in context:
            raise UserError(
                f"data.template = {text!r}: a question and then one choice are needed, as in "
                "'Question: {question} {choice}'"
            )
        return cls(context, before[len(context) :], follows)


def question_rows(
    questions: Sequence[Question],
    encode: Tokenizer,
    template: Template,
    *,
    normalise: str,
    premise: str,
    max_length: int,
    most: int,
) -> tuple[list[TokenRow], int]:
    """Rows of `most` choices each, and how many questions had to be cut at their beginning.

    Raises
    ------
    UserError
        A choice would be cut, or is no token.
    """
    contexts = [template.context.replace("{question}", one.text) for one in questions]
    if normalise == "pmi":  # behind every question the premise alone
        contexts = [text for context in contexts for text in (context, premise)]
    owners = [one for one in questions for _ in range(len(contexts) // len(questions))]
    pairs = [(row, context, choice) for row, context in enumerate(contexts) for choice in owners[row].choices]
    first = [len(tokens) for tokens in encode(contexts, special=False)]
    wholes = encode(
        [context + template.space + choice + template.follows for _, context, choice in pairs], special=False
    )
    cut: set[int] = set()
    sequences: list[list[Any]] = [[] for _ in contexts]
    starts: list[list[int]] = [[] for _ in contexts]
    for (row, _, choice), whole in zip(pairs, wholes, strict=True):
        tokens = len(whole) - first[row]
        if tokens < 1 or not first[row]:
            raise UserError(f"{owners[row].where}: the choice {choice!r:.60} or what stands before it is no token")
        if tokens >= max_length:
            raise UserError(
                f"{owners[row].where}: the choice {choice!r:.60} has {tokens} tokens and would be cut: "
                f"data.max_length={tokens + 1} or more"
            )
        if len(whole) > max_length:
            cut.add(row)
        sequences[row].append(whole[-max_length:])
        starts[row].append(min(first[row], max_length - tokens))
    empty = np.zeros(0, dtype=np.int64)
    for row in range(len(contexts)):
        lacking = most - len(sequences[row])
        sequences[row] += [empty] * lacking
        starts[row] += [0] * lacking
    rows, per = [], len(contexts) // len(questions)
    for i, one in enumerate(questions):
        own = [s for some in sequences[i * per : (i + 1) * per] for s in some]
        begin = np.array([s for some in starts[i * per : (i + 1) * per] for s in some], dtype=np.int64)
        exists = np.arange(most) < len(one.choices)
        units = np.ones(most, dtype=np.float32)
        if normalise == "bytes":
            units[exists] = [len(choice.encode()) for choice in one.choices]
        elif normalise == "chars":
            units[exists] = [len(choice) for choice in one.choices]
        elif normalise == "tokens":
            units[exists] = [len(s) - b for s, b in zip(own, begin, strict=True)][: len(one.choices)]
        rows.append(TokenRow(tuple(own), one.answer, {"choices": exists, "units": units, "first": begin}))
    return rows, len(cut)
