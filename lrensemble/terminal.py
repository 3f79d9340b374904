"""Text that came from files, as a terminal may have it: what it would obey is written as an escape.

Commands say everything through `cli.output`. Warnings and errors that nobody catches, of a command or of a worker
process, go through the hooks of `install`.
"""

from __future__ import annotations

import re
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import Any

# What a terminal obeys instead of showing it: control characters (C0 but line feed and tab, DEL, C1), characters
# without width, separators of lines, marks and overrides of direction, tags, and halves of surrogate pairs.
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


# Of a URL (postgresql://USER:PASSWORD@HOST), or named: it may stand where nobody expects it, in a wrong option.
PASSWORD = re.compile(r"(://[^\s/:@]*:)(.+)@|(\b(?:ssl)?(?:password|passwd|pwd)=)[^\s&'\"]+", re.IGNORECASE)
LONGEST = 10_000  # characters of a note: an error may name what is a file long


def shown(text: str) -> str:
    """`text` with what a terminal would obey as escapes: ``\\x1b`` for ESC. No passwords."""
    text = PASSWORD.sub(lambda match: f"{match[1] or match[3]}***{'@' if match[1] else ''}", text)
    return OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """`shown`; what a name or a reason has after a line feed must not look like a line of ours."""
    return shown(text).replace("\n", "\n  ")


def note(text: str) -> None:
    """A line for people that is no result, on stderr."""
    text = one_line(text)  # all of it: half of a password is not known as one
    more = f" ... ({len(text):,} characters)" if len(text) > LONGEST else ""
    print(text[:LONGEST] + more, file=sys.stderr)


def install() -> None:
    """Make what Python itself writes to stderr go through `shown`."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that knows ASCII alone
    warnings.showwarning, sys.excepthook = warn, crash
    threading.excepthook = lambda info: crash(info.exc_type, info.exc_value, info.exc_traceback)
    sys.unraisablehook = lambda info: crash(info.exc_type, info.exc_value, info.exc_traceback)


def warn(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    note(f"warning: {message}")


def crash(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    """A bug, or a user's own code: Python's traceback, in which a text from a file shows as text."""
    for line in "".join(traceback.format_exception(kind, error, where)).rstrip("\n").split("\n"):
        note(line)
