"""Worth it or not, in words that a careful reader would sign; the same in Python, commands, page and card."""

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

IS_SINGLE = "This team is the best single member: one model is no ensemble"
NO_TEAM = "No team to use: only random ones were selected, which are a control"
_SHOWN = {1: "better than", 0: "not shown to differ from", -1: "worse than"}
_SEARCH = {
    ALL_AVERAGE: "the average of all",
    TOP_K: "top-k of its size",
    RANDOM: "random teams of its size",
}
_PAYS = {1: "The search pays", 0: "The search is not shown to pay", -1: "The search does not pay"}
DIVERSITY = {
    1: "LR diversity helps here",
    0: "LR diversity is not shown to help here",
    -1: "LR diversity hurts here",
}


def judged(row: Comparison, objective: str) -> tuple[Gain, str, str, int]:
    """The gain in what a team was selected for, with the objective's name, unit and digits.

    Accuracy stands in where members give labels, which have no NLL, and for metrics that were not computed.
    """
    if objective == "nll" and row.nll_gain is not None:
        return row.nll_gain, "NLL", " nats", 4
    if objective in row.metric_gains:
        return row.metric_gains[objective], objective.rpartition(":")[2], "", 4
    return row.accuracy_gain, "accuracy", " points", 2


def verdict(
    comparisons: Sequence[Comparison],
    rows: int,
    note: str,
    objective: str = "nll",
    control: bool = False,
    equal_bill: Comparison | None = None,
) -> str:
    """Four lines: worth it or not, the gains, whether the policies are the reason, and whether the search is.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Of this team; without the best single member among them, the team is that member.
    rows : int
        Of the test split.
    note : str
        Why there is no seeds-only control, where there is none.
    objective : str
        What the team was selected for, and so is judged by.
    control : bool
        Whether it is a random team, which is for comparison and never recommended.
    equal_bill : Comparison, optional
        What its selector makes of pool and control together, with seeds-only, which costs as much.
    """
    met = {row.baseline: row for row in comparisons}
    if BEST_SINGLE not in met:
        return IS_SINGLE
    single = met[BEST_SINGLE]
    gain, what, *_ = judged(single, objective)
    better, worse = {
        "NLL": ("has a lower NLL than", "has a higher NLL than"),
        "accuracy": ("is more accurate than", "is less accurate than"),
    }.get(what, (f"is better in {what} than", f"is worse in {what} than"))
    answer = {
        1: f"Worth it: team {single.name} {better} the best single member",
        0: f"Not shown to be worth it: the {what} of team {single.name} cannot be told from the best single member's",
        -1: f"Not worth it: team {single.name} {worse} the best single member",
    }[gain.direction]
    if control:
        answer = f"Team {single.name} is random: a control, not a team to use"
    gains = dict.fromkeys([_words(single, objective), _words(single, "accuracy")])
    return "\n".join(
        [
            answer,
            f"Gains over the best single member on test (n = {rows:,}, 95 % intervals): {', '.join(gains)}",
            f"Different policies or just more models? {_policies(met.get(SEEDS_ONLY), note, objective, equal_bill)}",
            f"Search or just averaging? {_search(met, objective)}",
        ]
    )


def _policies(row: Comparison | None, note: str, objective: str, equal: Comparison | None) -> str:
    if row is None:
        return f"Open: {note}"
    text = f"{DIVERSITY[judged(row, objective)[0].direction]}: {_words(row, objective)} over seeds-only"
    if equal is None or equal.baseline_bill is None:
        return text
    return f"{text}, which costs {equal.baseline_bill.trainings:,} trainings; {_words(equal, objective)} for as many"


def _search(met: dict[str, Comparison], objective: str) -> str:
    there = {name: judged(met[name], objective) for name in _SEARCH if name in met}
    if not there:
        return "It is the average of all: nothing was searched for"
    _, what, *_ = judged(met[BEST_SINGLE], objective)
    there = {name: found for name, found in there.items() if found[1] == what}  # random has no further metrics
    if not there:
        return f"Open: the {what} of what it is compared with is not known"
    directions = [there[name][0].direction for name in (ALL_AVERAGE, TOP_K) if name in there]
    parts = []
    for direction, words in _SHOWN.items():
        others = [
            f"{_SEARCH[name]} ({_words(met[name], objective)})"
            for name, found in there.items()
            if found[0].direction == direction
        ]
        if others:
            parts.append(f"{words} {', '.join(others)}")
    return f"{_PAYS[min(directions, default=0)]}: {'; '.join(parts)}"


def caution(teams: int) -> str:
    """What to keep in mind when several teams met the same test rows; empty for one."""
    if teams < 2:
        return ""
    return (
        f"{teams} teams met the same test rows: intervals and p values are of each alone, and the one that looks best "
        "looks better than it is (Holm's p values allow for the number of teams)"
    )


def _words(row: Comparison, objective: str) -> str:
    """A gain with its interval, and a reservation where it is shown for this team alone, not as one of several."""
    gain, what, unit, digits = judged(row, objective)
    value, low, high = gain.words(digits)
    text = f"{what} {value}{unit} [{low}, {high}]"
    if gain is row.accuracy_gain and gain.direction and row.p_holm is not None and row.p_holm >= 1 - LEVEL:
        text += f" (not as one of several teams: Holm's p = {row.p_holm:.2f})"
    return text
