"""Regular expressions that may be a stranger's (of a pool's files): a search takes no longer than it should."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys

from lrensemble.errors import UserError

SECONDS = 30.0  # a million file names take five
# A process of its own, as `re` knows no time limit: (a+)+$ takes longer than anyone lives.
_SEARCH = """
import json, re, sys
pattern, texts = json.load(sys.stdin)
found = map(re.compile(pattern).search, texts)
json.dump([match and (match[min(1, match.re.groups)] or "") for match in found], sys.stdout)
"""


@functools.lru_cache(maxsize=64)
def find_pattern(pattern: str, texts: tuple[str, ...], where: str) -> tuple[str | None, ...]:
    """What a regular expression finds first in every text: its first group in brackets, else all of it; or None.

    Raises
    ------
    UserError
        It is no regular expression, or the search takes more than `SECONDS`.
    """
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"{where}: {pattern!r:.200} is no regular expression ({error})") from None
    command = [sys.executable, "-I", "-S", "-c", _SEARCH]
    try:
        done = subprocess.run(
            command, input=json.dumps([pattern, texts]), capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{where}: {pattern!r:.200} takes more than {SECONDS:g} s in {len(texts):,} texts: write one without "
            "repeats of repeats, such as (a+)+"
        ) from None
    return tuple(json.loads(done.stdout))
