"""What a team makes of the test rows beside the best single member: what it fixes and breaks, confuses, is sure of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.evaluation.details import MOST_CLASSES
from lrensemble.evaluation.teams import Entry, vote
from lrensemble.metrics import confusion, correct_rows, most_confused, risk_coverage
from lrensemble.pool import Member, Pool, Team
from lrensemble.report.page.examples import Example, examples_of

SHOWN = 10  # rows that are shown of what a team fixes, and as many of what it breaks
COVERAGES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
POINTS = 100  # of a risk-coverage curve
FEWEST = 20  # rows that a share of errors is drawn of
SINGLE = "best single"


@dataclass(frozen=True)
class TestVote:
    """What one of the two says of all test rows; `is_hard`: members that give labels take part, no confidence."""

    name: str
    probabilities: Array  # (N, C)
    is_hard: bool


@dataclass(frozen=True)
class RowChange:
    """A test row that one of the two has right and the other wrong. Classes are their numbers."""

    row: int
    label: int
    single: int
    team: int
    single_confidence: float | None  # in its class; None of labels
    team_confidence: float | None
    example: Example | None  # None where the data are not shown


@dataclass(frozen=True)
class Changes:
    """The team against the best single member, row by row.

    Attributes
    ----------
    both, fixed, broken, neither : int
        Rows that both have right, the team alone, the best single member alone, none of them.
    fixed_rows, broken_rows : list of RowChange
        `SHOWN` at most: those where the probability of the true class changes most.
    why_numbers : str
        Why the rows are shown by their numbers; empty where the data are shown.
    """

    both: int
    fixed: int
    broken: int
    neither: int
    fixed_rows: list[RowChange]
    broken_rows: list[RowChange]
    why_numbers: str


@dataclass(frozen=True)
class Confusion:
    """Rows of every true class by the class that a vote has; `matrix` is None with more than `MOST_CLASSES`."""

    name: str
    matrix: list[list[int]] | None
    confused: list[tuple[int, int, int]]  # true class, class of the vote, rows: the most frequent errors


@dataclass(frozen=True)
class RiskCurve:
    """Error among the rows that a vote is surest of, by their share."""

    name: str
    aurc: float
    coverage: list[float]
    risk: list[float]
    at: dict[str, float]  # coverage in percent -> error, at `COVERAGES`


def votes_of(pool: Pool, team: Team | None, best: Member) -> list[TestVote]:
    """Of the best single member, and of a team of two or more."""
    votes = [TestVote(SINGLE, np.asarray(pool.predictions("test", [best])[0]), best.record.is_labels)]
    members = list(pool.members_of(team, "test").values()) if team else []
    if team and len(members) > 1:
        cast = vote(Entry.of(team), pool.predictions("test", members))
        votes.append(TestVote(team.name, cast, any(member.record.is_labels for member in members)))
    return votes


def changes_of(pool: Pool, votes: list[TestVote], labels: Array, *, show: bool = True) -> Changes | None:
    """None where there is no team of two or more. `show` False: rows by their numbers alone."""
    if len(votes) < 2:
        return None
    single, team = votes
    right = [correct_rows(vote.probabilities, labels).astype(bool) for vote in votes]
    rows = np.arange(len(labels))
    gain = team.probabilities[rows, labels] - single.probabilities[rows, labels].astype(np.float64)
    fixed, broken = np.flatnonzero(right[1] & ~right[0]), np.flatnonzero(right[0] & ~right[1])
    fixed_shown = fixed[np.argsort(-gain[fixed], kind="stable")[:SHOWN]]
    broken_shown = broken[np.argsort(gain[broken], kind="stable")[:SHOWN]]
    examples, why = examples_of(pool, [*fixed_shown.tolist(), *broken_shown.tolist()], show)
    classes = [vote.probabilities.argmax(-1) for vote in votes]

    def sure(vote: TestVote, row: int, said: int) -> float | None:
        return None if vote.is_hard else float(vote.probabilities[row, said])

    def change(row: int) -> RowChange:
        first, second = (int(one[row]) for one in classes)
        return RowChange(
            row,
            label=int(labels[row]),
            single=first,
            team=second,
            single_confidence=sure(single, row, first),
            team_confidence=sure(team, row, second),
            example=examples.get(row),
        )

    return Changes(
        both=int((right[0] & right[1]).sum()),
        fixed=len(fixed),
        broken=len(broken),
        neither=int((~right[0] & ~right[1]).sum()),
        fixed_rows=[change(int(row)) for row in fixed_shown],
        broken_rows=[change(int(row)) for row in broken_shown],
        why_numbers=why,
    )


def confusion_of(vote: TestVote, labels: Array) -> Confusion:
    """Of the team, or where there is none of the best single member."""
    matrix = confusion(vote.probabilities, labels)
    return Confusion(vote.name, matrix.tolist() if len(matrix) <= MOST_CLASSES else None, most_confused(matrix))


def risk_curves(votes: list[TestVote], labels: Array) -> list[RiskCurve]:
    """Of the votes that have a confidence."""
    curves = []
    for one in votes:
        if one.is_hard:
            continue
        coverage, risk = risk_coverage(one.probabilities, labels)
        rows = len(coverage)
        first = min(FEWEST, rows) - 1
        kept = np.unique(np.linspace(first, rows - 1, POINTS).round().astype(int))
        at = {f"{100 * share:g}": float(risk[max(1, round(share * rows)) - 1]) for share in COVERAGES}
        curves.append(RiskCurve(one.name, float(risk.mean()), coverage[kept].tolist(), risk[kept].tolist(), at))
    return curves
