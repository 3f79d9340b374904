"""Against self-deception: the same selection on other rows. Who is chosen again, and how much of the gain is real?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.selection.ballots import MEMORY, Ballots, checked_inputs
from lrensemble.selection.base import Selector


@dataclass(frozen=True)
class Stability:
    """What repeated selection on parts of the rows showed.

    Scores are accuracies, or minus NLL in nats: higher is better. *Inside* means on the rows that chose the team,
    *outside* on the others.
    """

    frequency: Array  # (M,) share of the repeats in which the member was chosen
    inside: Array  # (R,) score of the team
    outside: Array  # (R,)
    single_inside: Array  # (R,) score of the best single member, chosen on the same rows
    single_outside: Array  # (R,)
    overlap: float  # mean share of members that two repeats have in common (Jaccard index)

    @property
    def optimism(self) -> float:
        """How much better than outside a team scores on the rows that chose it, on average."""
        return float((self.inside - self.outside).mean())

    @property
    def promised_gain(self) -> float:
        """Over the best single member, on the rows that chose both."""
        return float((self.inside - self.single_inside).mean())

    @property
    def gain(self) -> float:
        """Over the best single member, on the other rows."""
        return float((self.outside - self.single_outside).mean())


def stability(
    selector: Selector,
    predictions: Any,
    labels: ArrayLike,
    *,
    repeats: int = 20,
    seed: int = 0,
    costs: ArrayLike | None = None,
    memory: int = MEMORY,
) -> Stability:
    """Run a selector on random halves of the rows and score its teams inside and outside.

    Parameters
    ----------
    selector : Selector
        Is cloned, not changed.
    repeats : int
        Selections. Every split is used both ways, so that the difficulty of the rows cancels in `optimism`.

    Raises
    ------
    UserError
        Fewer than two rows, and whatever `fit` raises.
    """
    P, y = checked_inputs(predictions, labels)
    if repeats < 1:
        raise UserError(f"repeats {repeats} is not possible: give 1 or more")
    if len(y) < 2:
        raise UserError("stability needs 2 rows or more: there is nothing outside of one")
    objective = selector.objective
    chosen, found = [], []
    for ours, others in _halves(len(y), repeats, np.random.default_rng(seed)):
        inside, outside = _some_rows(P, ours), _some_rows(P, others)
        fitted = clone(selector).fit(inside, y[ours], costs=costs, memory=memory)
        chosen.append(fitted.weights_)
        views = [
            Ballots(view, y[rows], vote=fitted.vote, temperatures=fitted.temperatures_, memory=memory)
            for view, rows in ((inside, ours), (outside, others))
        ]
        best = np.eye(len(P))[int(np.argmax(views[0].singles(objective)))]
        found.append([view.score(view.cast(team), objective) for team in (fitted.weights_, best) for view in views])
    weights, scores = np.stack(chosen), np.array(found).T
    return Stability(
        frequency=(weights > 0).mean(0),
        inside=scores[0],
        outside=scores[1],
        single_inside=scores[2],
        single_outside=scores[3],
        overlap=_overlap(weights > 0),
    )


def _halves(rows: int, repeats: int, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """Pairs of row indices: to select on, and to test on."""
    for done in range(0, repeats, 2):
        order = rng.permutation(rows)
        first, second = np.sort(order[: rows // 2]), np.sort(order[rows // 2 :])
        yield from [(first, second), (second, first)][: repeats - done]


def _overlap(chosen: Array) -> float:
    """Mean Jaccard index of all pairs of the teams (R, M); 1 for a single one."""
    if len(chosen) == 1:
        return 1.0
    sets = chosen.astype(np.float64)
    both = sets @ sets.T
    sizes = sets.sum(1)
    jaccard = both / (sizes[:, None] + sizes - both)
    return float(jaccard[np.triu_indices(len(sets), 1)].mean())


def _some_rows(predictions: Any, rows: Array) -> Any:
    return predictions[:, rows] if isinstance(predictions, np.ndarray) else _Resampled(predictions, rows)


class _Resampled:
    """Some rows of predictions that lie on disk: the members are read one at a time."""

    def __init__(self, predictions: Any, rows: Array) -> None:
        self._predictions = predictions
        self._rows = rows
        self.shape = (len(predictions), len(rows), predictions.shape[2])
        self.dtype = predictions.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Array:
        member, rows = index if isinstance(index, tuple) else (index, slice(None))
        return np.asarray(self._predictions[member, self._rows[rows]])
