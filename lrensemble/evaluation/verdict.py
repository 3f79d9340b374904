"""Differences with intervals, in words that a careful reader would sign."""

from __future__ import annotations

from collections.abc import Sequence

from lrensemble.evaluation.results import (
    ALL_AVERAGE,
    BEST_SINGLE,
    LEVEL,
    RANDOM,
    SEEDS_ONLY,
    TOP_K,
    Comparison,
    Gain,
)

_SHOWN = {1: "better than", 0: "not shown to differ from", -1: "worse than"}
_SELECTION = {
    ALL_AVERAGE: "the average of all",
    TOP_K: "top-k of its size",
    RANDOM: "random teams of its size",
}
DIVERSITY = {
    1: "LR diversity helps here",
    0: "LR diversity is not shown to help here",
    -1: "LR diversity hurts here",
}


def verdict(comparisons: Sequence[Comparison], rows: int, note: str) -> str:
    """One line: what a team gains over each baseline, and what that does and does not show.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Of this team; the best single member must be among them.
    rows : int
        Of the test split.
    note : str
        Why there is no seeds-only control, where there is none.
    """
    met = {row.baseline: row for row in comparisons}
    single = met[BEST_SINGLE]
    shown = _SHOWN[single.accuracy_gain.direction]
    value, interval = _words(single.accuracy_gain)
    parts = [f"{value} points (95 % CI {interval}, n = {rows:,}): {shown} the best single member{_holm(single)}"]
    for direction, words in _SHOWN.items():
        others = [
            f"{name} ({', CI '.join(_words(met[baseline].accuracy_gain))}){_holm(met[baseline])}"
            for baseline, name in _SELECTION.items()
            if baseline in met and met[baseline].accuracy_gain.direction == direction
        ]
        if others:
            parts.append(f"{words} {', '.join(others)}")
    if SEEDS_ONLY in met:
        row = met[SEEDS_ONLY]
        value, interval = _words(row.accuracy_gain)
        words = DIVERSITY[row.accuracy_gain.direction]
        parts.append(f"{value} points (95 % CI {interval}) over seeds-only: {words}{_holm(row)}")
    else:
        parts.append(note)
    return "; ".join(parts)


def caution(teams: int) -> str:
    """What to keep in mind when several teams met the same test rows; empty for one."""
    if teams < 2:
        return ""
    return (
        f"{teams} teams met the same test rows: intervals and p values are of each alone, and the one that looks best "
        "looks better than it is (Holm's p values allow for the number of teams)"
    )


def _words(gain: Gain) -> tuple[str, str]:
    value, low, high = gain.words()
    return value, f"{low} to {high}"


def _holm(row: Comparison) -> str:
    """A reservation where a difference is shown for this team alone, but not as one of several."""
    if row.accuracy_gain.direction and row.p_holm is not None and row.p_holm >= 1 - LEVEL:
        return f" (not as one of several teams: Holm's p = {row.p_holm:.2f})"
    return ""
