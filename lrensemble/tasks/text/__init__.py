"""Tasks of texts by name: what files of texts become, as sequences of tokens."""

from collections.abc import Callable

from lrensemble.tasks.text.choices import choice_task
from lrensemble.tasks.text.classes import text_task
from lrensemble.tasks.text.documents import document_task
from lrensemble.tasks.text.form import TextForm
from lrensemble.tasks.text.task import TextTask

TEXTS: dict[str, Callable[..., TextTask]] = {"text": text_task, "choices": choice_task, "documents": document_task}

__all__ = ["TEXTS", "TextForm", "TextTask"]
