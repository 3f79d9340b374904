"""How the scripts of this folder end."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

from lrensemble import UserError

P = ParamSpec("P")


def one_line(main: Callable[P, None]) -> Callable[P, int]:
    """Exit codes as those of `lrensemble`: 2 after one line about a `UserError`, else 0."""

    @functools.wraps(main)
    def code(*args: P.args, **options: P.kwargs) -> int:
        try:
            main(*args, **options)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return 0

    return code
