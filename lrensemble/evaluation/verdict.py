"""Differences with intervals, in words that a careful reader would sign."""

from __future__ import annotations

from lrensemble.evaluation.paired import Gain


def verdict(over_single: Gain, over_control: Gain | None, rows: int, note: str) -> str:
    """One line: what the team gains over the best single member, and whether LR diversity is the reason."""

    def points(gain: Gain) -> str:
        return f"{gain.value:+.2f} points (95 % CI {gain.low:+.2f} to {gain.high:+.2f}"

    single = {1: "better than", -1: "worse than", 0: "not shown to differ from"}[over_single.direction]
    text = f"{points(over_single)}, n = {rows:,}): {single} the best single member"
    if over_control is None:
        return f"{text}; {note}"
    seeds = {
        1: "LR diversity helps here",
        -1: "LR diversity hurts here",
        0: "LR diversity not shown to help here",
    }[over_control.direction]
    return f"{text}; {points(over_control)}) over seeds-only: {seeds}"
