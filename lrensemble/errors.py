"""What a user can get wrong, said in one line that names the value and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input or a bad environment (not a bug): the shell prints one line and exits with code 2."""

    def _render_traceback_(self) -> list[str]:
        """One line in a notebook too: IPython asks for it in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class MachineError(UserError):
    """Trouble of the machine (descriptors, memory, a file server): it says nothing about the file that was read.

    So nothing is called damaged, and no member is left out, because of it.
    """


def first_line(error: BaseException) -> str:
    """What an error says, without what follows; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def did_you_mean(name: object, options: Iterable[str]) -> str:
    """Return ``"did you mean 'x'? "`` when something is close, then the whole list.

    >>> did_you_mean("gredy", ["greedy", "all"])
    "did you mean 'greedy'? Known: all, greedy"
    """
    lower = {option.lower(): option for option in sorted(options)}
    close = [lower[match] for match in difflib.get_close_matches(str(name).lower(), lower, n=5, cutoff=0.6)]
    hint = f"did you mean {close[0]!r}? " if close else ""
    if len(lower) > 40:  # a long list helps nobody
        some = close or [*lower.values()][:10]
        return f"{hint}{'Similar' if close else f'{len(lower):,} are known, the first'}: {', '.join(some)}"
    return f"{hint}Known: {', '.join(lower.values()) or 'none'}"
