"""A line through many points by fewer of them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def bends(points: Sequence[Sequence[float]], near: float) -> list[int]:
    """Numbers of some points (x, y), such that straight lines between them pass all others within `near` in y.

    The points go from left to right; of those above each other all are kept. The first and the last are kept.
    """
    kept = [0]
    low, high = -math.inf, math.inf  # slopes from the last kept point that pass all since
    for i in range(1, len(points)):
        x, y = points[i]
        x0, y0 = points[kept[-1]]
        slope = (y - y0) / (x - x0) if x > x0 else math.nan
        if not low <= slope <= high:
            if kept[-1] != i - 1:
                kept.append(i - 1)
                x0, y0 = points[i - 1]
            low, high = -math.inf, math.inf
            if x <= x0:
                kept.append(i)
                continue
        low, high = max(low, (y - near - y0) / (x - x0)), min(high, (y + near - y0) / (x - x0))
    return [*dict.fromkeys([*kept, len(points) - 1])]
