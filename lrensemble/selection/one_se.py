"""The one-standard-error rule: the smallest team that is not clearly worse than the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.selection.ballots import Ballots


class Candidate(Protocol):
    """A team with its score on validation."""

    @property
    def weights(self) -> Array: ...
    @property
    def score(self) -> float: ...


def smallest_within_one_se(
    candidates: Sequence[Candidate],
    ballots: Ballots,
    objective: str,
    *,
    costs: Array | None = None,
) -> Array:
    """Weights of the smallest candidate whose score is within one standard error of the best (Breiman et al. 1984).

    Ties of size go to the better score, then to the earlier candidate.

    Parameters
    ----------
    candidates : sequence with ``weights`` (M,) and ``score``
        For example the `trajectory_` of a fitted selector.
    costs : (M,) array, optional
        Take the cheapest instead of the smallest team.

    Raises
    ------
    UserError
        Without candidates.
    """
    if not candidates:
        raise UserError("the one-standard-error rule needs teams of several sizes: use it with greedy, top-k or pareto")
    best = max(candidates, key=lambda step: step.score)  # of equals the first
    error = ballots.standard_error(ballots.cast(best.weights), objective)
    price = np.ones(ballots.total) if costs is None else costs
    ranked = sorted(candidates, key=lambda step: (price[step.weights > 0].sum(), -step.score))
    return np.asarray(next(step for step in ranked if best.score - step.score <= error).weights)
