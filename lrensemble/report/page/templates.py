"""The templates in ``web/``: markup is written there, numbers come from here."""

from __future__ import annotations

import functools
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates() -> Environment:
    """All of them; they escape what they are given."""
    return Environment(
        loader=PackageLoader("lrensemble.report.page", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_with_minus,
    )


def _with_minus(value: Any) -> Any:
    """Sentences of the verdict come with the hyphen of a terminal; the page has one minus sign, that of its numbers."""
    return re.sub(r"(?<![^\s(\[])-(?=\d)", "−", value) if type(value) is str else value  # noqa: RUF001


@functools.cache
def pictures() -> Any:
    """The macros of ``pictures.html`` by name; each gives `Markup`."""
    return templates().get_template("pictures.html").module
