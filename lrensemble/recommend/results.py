"""How good the team was after every round, on validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrensemble.metrics import correct_rows, nll_rows, standard_error, true_class
from lrensemble.pool import Pool
from lrensemble.recommend.gain import greedy_weights
from lrensemble.recommend.rounds import members_of, read_rounds


@dataclass(frozen=True)
class Result:
    """The greedy team (NLL) of all runs up to a round, chosen and scored on the same validation rows.

    Attributes
    ----------
    trained : runs in the pool, diverged ones included
    team : members with a weight
    nll, accuracy, accuracy_se : of the team; the standard error is binomial over `rows`
    seconds : that all runs took so far
    """

    number: int
    trained: int
    complete: int
    team: int
    nll: float
    accuracy: float
    accuracy_se: float
    rows: int
    seconds: float


def results(pool: Pool) -> list[Result]:
    """A result for every round after which a run is complete; snapshots and averages are left out."""
    rounds = read_rounds(pool)
    labels = pool.labels("val")
    found = []
    for done in rounds:
        members = members_of(pool, rounds[: done.number + 1])
        complete = [member for member in pool.whole(members, "val") if member.record.status == "complete"]
        if not complete:
            continue
        predictions = np.asarray(pool.predictions("val", complete), dtype=np.float64)
        weights = greedy_weights(true_class(predictions, labels))
        team = np.tensordot(weights, predictions, axes=1)
        accuracy = float(correct_rows(team, labels).mean())
        found.append(
            Result(
                number=done.number,
                trained=len(members),
                complete=len(complete),
                team=int(np.count_nonzero(weights)),
                nll=float(nll_rows(team, labels).mean()),
                accuracy=accuracy,
                accuracy_se=standard_error(accuracy, len(labels)),
                rows=len(labels),
                seconds=float(sum(member.record.costs.get("seconds", 0.0) for member in members)),
            )
        )
    return found
