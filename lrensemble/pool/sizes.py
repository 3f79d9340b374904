"""Sizes on disk as text: ``2GB`` and back."""

from __future__ import annotations

import math
import re

from lrensemble.errors import UserError

UNITS = ("B", "kB", "MB", "GB", "TB")


def size_text(count: float) -> str:
    """``1.2 MB`` and the like (powers of 1000)."""
    power = min(len(UNITS) - 1, int(math.log(max(count, 1), 1000)))
    return f"{count / 1000**power:.{0 if power == 0 else 1}f} {UNITS[power]}"


def parse_size(text: str) -> int:
    """Bytes of ``2GB``, ``1.5 TB``, ``500MiB``, ``0``; `UserError` for what is no size."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(?:([kMGT]?)(i?)B)?", text.strip(), re.IGNORECASE)
    # A number without a unit would be bytes, and a slip that deletes everything.
    if not match or (match[2] is None and float(match[1]) != 0) or float(match[1]) > 1e12:
        raise UserError(f"size {text!r} is not possible: write for example 2GB, 500MB, 1.5GiB or 0")
    power = "kmgt".index(match[2].lower()) + 1 if match[2] else 0
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)
