"""One team in detail: its classes, what it confuses, and its calibration, as numbers for tables and pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrensemble.evaluation.teams import Entry, Teams, predictions, resolve, vote
from lrensemble.metrics import confusion, most_confused, per_class, reliability
from lrensemble.pool import Pool

MOST_CLASSES = 100  # in a confusion matrix that is written out


@dataclass(frozen=True)
class Calibration:
    """Bins of a reliability diagram, lowest confidence first, empty ones left out."""

    counts: list[int]
    confidence: list[float]
    accuracy: list[float]


@dataclass(frozen=True)
class Details:
    """A team on the test split, class by class; lists are in the order of `class_names`, NaN where undefined."""

    name: str
    rows: int
    class_names: list[str]
    support: list[int]  # rows of the class
    recall: list[float]  # accuracy within the class
    precision: list[float]
    f1: list[float]
    confused: list[tuple[str, str, int]]  # (true class, predicted class, rows), the most frequent errors
    confusion: list[list[int]] | None  # rows by true, then predicted class; None with more than `MOST_CLASSES`
    equal_width: Calibration
    equal_mass: Calibration


def details(pool: Pool, teams: Teams = None) -> list[Details]:
    """Details of teams (default: all); the best single member, or all, by selecting them as teams.

    Raises `UserError` as `evaluate` does.
    """
    chosen, _ = resolve(pool, teams, "test")
    labels, names = pool.labels("test"), list(pool.task.class_names)
    found = []
    for team in chosen:
        entry = Entry.of(team)
        probabilities = vote(entry, predictions(pool, entry, pool.members_of(team, "test")))
        classes, matrix = per_class(probabilities, labels), confusion(probabilities, labels)
        wide, mass = (
            Calibration(*(values.tolist() for values in reliability(probabilities, labels, equal_mass=equal)))
            for equal in (False, True)
        )
        found.append(
            Details(
                name=team.name,
                rows=len(labels),
                class_names=names,
                **{key: np.asarray(values).tolist() for key, values in classes._asdict().items()},
                confused=[(names[i], names[j], count) for i, j, count in most_confused(matrix)],
                confusion=matrix.tolist() if len(names) <= MOST_CLASSES else None,
                equal_width=wide,
                equal_mass=mass,
            )
        )
    return found
