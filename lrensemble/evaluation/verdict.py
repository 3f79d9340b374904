"""Worth it or not, in words that a careful reader would sign; the same in Python, commands, page and card."""

from __future__ import annotations

from collections.abc import Sequence

from lrensemble.evaluation.results import (
    ALL_AVERAGE,
    BEST_SINGLE,
    DEFAULT_SEEDS,
    HALF,
    LEVEL,
    RANDOM,
    SEEDS_ONLY,
    TOP_K,
    Bill,
    Comparison,
    Gain,
    OverRuns,
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
# At equal bills; the answer to "A good use of the budget?"
_SPENT = {1: "Yes", 0: "Not shown", -1: "No"}
_OTHERWISE = {HALF: "half tuning, half seeds", DEFAULT_SEEDS: "seeds of a default fixed before training"}
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
    over_runs: OverRuns | None = None,
    unmet: str = "",
) -> str:
    """Five lines: worth it or not, the gains, whether the policies are the reason, the budget's use, and the search.

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
    over_runs : OverRuns, optional
        How far the gains hang on the runs.
    unmet : str
        Why it did not meet some of what costs as much.
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
    words = ", ".join(gains) + (f". With other runs: {_deviations(over_runs, what)}" if over_runs else "")
    return "\n".join(
        [
            answer,
            f"Gains over the best single member on test (n = {rows:,}, 95 % intervals over the rows): {words}",
            f"Different policies or just more models? {_policies(met.get(SEEDS_ONLY), note, objective)}",
            f"A good use of the budget? {_budget(met, equal_bill, objective, unmet)}",
            f"Search or just averaging? {_search(met, objective)}",
        ]
    )


def _deviations(over_runs: OverRuns, what: str) -> str:
    """Standard errors over the runs, apart from the intervals, which are over the rows."""
    found = [f"accuracy ± {over_runs.accuracy:.2f} points"]
    if what == "NLL" and over_runs.nll is not None:
        found.insert(0, f"NLL ± {over_runs.nll:.4f} nats")
    return f"{', '.join(found)} (standard errors from {over_runs.halves} halves of the pool)"


def _policies(row: Comparison | None, note: str, objective: str) -> str:
    if row is None:
        return f"Open: {note}"
    text = f"{DIVERSITY[judged(row, objective)[0].direction]}: {_words(row, objective)} over seeds-only"
    if row.bill is None or row.baseline_bill is None:
        return text
    return f"{text}, from as many models ({_bills(row.bill, row.baseline_bill)})"


def _bills(bill: Bill, other: Bill) -> str:
    """Words for two bills; only equal ones are called so."""
    if bill.equals(other):
        return f"{bill.trainings:,} trainings each"
    if bill.trainings == other.trainings:
        return f"{bill.trainings:,} trainings each, but {bill.epochs:,} epochs against {other.epochs:,}"
    return f"{bill.trainings:,} trainings against {other.trainings:,}"


def _budget(met: dict[str, Comparison], equal: Comparison | None, objective: str, unmet: str) -> str:
    """Against what as many trainings would have given, spent in other ways."""
    rows = [(met[name], words) for name, words in _OTHERWISE.items() if name in met]
    rows += [(equal, "seeds-only, with the control in the team")] if equal else []
    fair = [judged(row, objective)[0].direction for row, _ in rows if row.is_fair]
    parts = [
        f"{_SHOWN[judged(row, objective)[0].direction]} {words} ({_words(row, objective)}; "
        f"{_bills(row.bill, row.baseline_bill)})"
        for row, words in rows
        if row.bill and row.baseline_bill
    ]
    parts += [unmet] if unmet else []
    if not fair:
        return f"Open: {'; '.join(parts) or 'nothing else that costs as much was trained'}"
    return f"{_SPENT[min(fair)]}, at equal bills: {'; '.join(parts)}"


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
