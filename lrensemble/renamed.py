"""Parameters that have another name now: the old one works, with a note."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: ``@renamed(old="new")`` takes keyword ``old`` as ``new``; TypeError where both are given."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given: Any = kwargs
            for old in names.keys() & given.keys():
                if names[old] in given:
                    raise TypeError(f"{function.__name__}: {old} is called {names[old]} now, and both are given")
                warnings.warn(f"{function.__name__}: {old} is called {names[old]} now", FutureWarning, stacklevel=2)
                given[names[old]] = given.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
