"""How rows of files become sequences of tokens: all of a task of texts but its rows, for what predicts new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from lrensemble.errors import UserError
from lrensemble.tasks.text.choices import QUESTION_TOKENS, TEMPLATE, ChoiceTask, Normalise
from lrensemble.tasks.text.classes import TEXT_TOKENS, class_rows
from lrensemble.tasks.text.questions import Template, question_rows, read_question
from lrensemble.tasks.text.reading import TextRow
from lrensemble.tasks.text.task import TextTask, TokenRow
from lrensemble.tasks.text.tokens import Tokenizer


class TextForm(BaseModel):
    """The options of a task of texts that say how a row is read."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: Literal["text", "choices"]
    tokenizer: str
    tokenizer_hash: str | None = None  # None: whatever there is
    max_length: int | None = None
    text: str = "text"
    question: str = "question"
    choices: str = "choices"
    template: str = TEMPLATE
    normalise: Normalise = "sum"
    premise: str = "Answer:"

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Of the data of a pool, with the hash of the tokenizer as it is now."""
        form = cls.model_validate({key: value for key, value in data.items() if value is not None})
        return form.model_copy(update={"tokenizer_hash": Tokenizer(form.tokenizer).hash})

    def task(self, class_names: Sequence[str]) -> TextTask:
        """The task without rows; `UserError` where the tokenizer is not at hand, or another one."""
        tokenizer = Tokenizer(self.tokenizer)
        if self.tokenizer_hash not in (None, tokenizer.hash):
            raise UserError(
                f"the tokenizer {self.tokenizer} is not the one of the training (its hash is {tokenizer.hash}, not "
                f"{self.tokenizer_hash}): put that one back"
            )
        made, head = (TextTask, "classes") if self.name == "text" else (ChoiceTask, "tokens")
        return made({}, class_names, tokenizer, head=head, max_length=self._most, options={})

    def rows(self, found: Sequence[TextRow], task: TextTask) -> list[TokenRow]:
        """Rows of a file as tokens; their answers are not looked at, and choices stay in their order."""
        if self.name == "text":
            return class_rows([row.text(self.text) for row in found], [0] * len(found), task.tokenizer, self._most)[0]
        questions = [read_question(row, self.question, self.choices, None) for row in found]
        if long := next((one for one in questions if len(one.choices) > task.num_classes), None):
            raise UserError(f"{long.where}: {len(long.choices)} choices, the team knows {task.num_classes} at most")
        template = Template.parse(self.template)
        return question_rows(
            questions,
            task.tokenizer,
            template,
            normalise=self.normalise,
            premise=self.premise,
            max_length=self._most,
            most=task.num_classes,
        )[0]

    @property
    def _most(self) -> int:
        return self.max_length or (TEXT_TOKENS if self.name == "text" else QUESTION_TOKENS)
