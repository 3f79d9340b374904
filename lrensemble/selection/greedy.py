"""Greedy ensemble selection (Caruana et al. 2004, "Ensemble Selection from Libraries of Models")."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.metrics import nll_of, true_class
from lrensemble.selection.base import Selector

Array = NDArray[Any]


class Greedy(Selector):
    """Forward selection with replacement: in every step add the member that makes the soft vote best.

    A member may be added again; the weights are the counts. Ties go to a member already in the team, then to the
    better NLL, then to the lower index. Of all the steps' teams the best is returned (of equals the earliest).

    Parameters
    ----------
    objective : {"nll", "accuracy"}
        Accuracy on a few hundred rows overfits; NLL, the default, much less.
    size : int, optional
        At most so many different members.
    steps : int
        Additions, 25 to 40 in the literature.

    Attributes
    ----------
    trajectory_ : list of (int, float)
        Member added and score of the vote after it, for every step.
    """

    trajectory_: list[tuple[int, float]]

    def __init__(self, objective: str = "nll", size: int | None = None, steps: int = 40) -> None:
        self.objective = objective
        self.size = size
        self.steps = steps

    def _select(self, P: Array, y: Array) -> tuple[Array, int]:
        total = len(P)
        true = true_class(P, y).astype(np.float64)
        # For NLL the column of the true class is all that is needed.
        columns = P.astype(np.float64) if self.objective == "accuracy" else true
        vote_sum, true_sum = np.zeros(columns.shape[1:]), np.zeros(true.shape[1:])
        counts = np.zeros(total, dtype=int)
        self.trajectory_ = []
        tried = 0
        for step in range(1, self.steps + 1):
            chosen = counts > 0
            full = self.size is not None and chosen.sum() == self.size
            candidates = np.flatnonzero(chosen) if full else np.arange(total)
            nll = np.array([nll_of((true_sum + true[m]) / step).mean() for m in candidates])
            if self.objective == "nll":
                scores = -nll
            else:
                scores = np.array([((vote_sum + columns[m]).argmax(-1) == y).mean() for m in candidates])
            # lexsort sorts by its last key first.
            best = np.lexsort((candidates, nll, ~chosen[candidates], -scores))[0]
            member = int(candidates[best])
            vote_sum += columns[member]
            true_sum += true[member]
            counts[member] += 1
            tried += len(candidates)
            self.trajectory_.append((member, float(scores[best])))
        best_step = int(np.argmax([score for _, score in self.trajectory_]))
        picks = [member for member, _ in self.trajectory_[: best_step + 1]]
        return np.bincount(picks, minlength=total).astype(np.float64), tried
