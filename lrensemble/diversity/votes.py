"""Who scores the votes of teams: for all of them block by block, or for any list of teams.

A list is scored by matrix products, in NumPy or on a torch device (GPU).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import joblib
import numpy as np

from lrensemble.array import Array
from lrensemble.diversity.lattice_votes import count_right, kernels, mean_nll
from lrensemble.diversity.margins import Margins, plurality_margins, soft_margins
from lrensemble.metrics.scores import TINY, true_class

Scorer = Callable[[int, int], Array]  # (first mask, number of teams) -> scores
Backend = Literal["auto", "numba", "numpy", "torch"]
VOTES = ("accuracy", "plurality", "nll")
SOFT = ("accuracy", "nll")  # of the soft vote, which needs probabilities
# Comparisons from which compiled code is worth a second of importing it; below, NumPy takes less than that.
_WORTH_COMPILED = 1_000_000_000
_CHUNK = 4_000_000  # numbers in one intermediate array: 32 MB
# ">= 0" as "> a bit less than 0": a sum of margins is 0 or larger than this, and it is no subnormal number.
_ALMOST_ZERO = -1e-300


def _true(probabilities: tuple[Array, Array]) -> Array:
    p, y = probabilities
    return np.ascontiguousarray(true_class(p, y).T, dtype=np.float64)


def list_scorers(
    names: list[str], soft: tuple[Array, Array] | None, predicted: Array, y: Array, device: str | None
) -> dict[str, Callable[[Array], Array]]:
    scorers: dict[str, Callable[[Array], Array]] = {}

    def share(counter: Callable[[Array], Array], x: Array) -> Array:
        return counter(x) / len(y)

    if "accuracy" in names and soft is not None:
        scorers["accuracy"] = partial(share, right_counter(soft_margins(*soft), device))
    if "plurality" in names:
        scorers["plurality"] = partial(share, right_counter(plurality_margins(predicted, y), device))
    if "nll" in names and soft is not None:
        scorers["nll"] = nll_scorer(_true(soft), device)
    return scorers


def block_scorers(
    names: list[str],
    soft: tuple[Array, Array] | None,
    predicted: Array,
    y: Array,
    backend: Backend,
    threads: int | None,
) -> dict[str, Scorer]:
    members, rows = predicted.shape
    threads = threads or joblib.cpu_count()

    def fast(comparisons: int) -> bool:
        if backend == "auto":
            return comparisons << members > _WORTH_COMPILED and kernels() is not None
        return backend == "numba"

    scorers: dict[str, Scorer] = {}
    for name in ("accuracy", "plurality"):
        if name in names:
            margins = soft_margins(*soft) if name == "accuracy" and soft else plurality_margins(predicted, y)
            use = fast(len(margins.values))
            scorers[name] = lambda first, teams, m=margins, use=use: (  # type: ignore[misc]
                count_right(m, members, first, teams, fast=use, threads=threads) / rows
            )
    if "nll" in names and soft is not None:
        scorers["nll"] = partial(mean_nll, _true(soft), fast=fast(rows), threads=threads)
    return scorers


def right_counter(margins: Margins, device: str | None = None) -> Callable[[Array], Array]:
    """Return a function from indicators (T, M) to the number of rows on which each team is right: (T,) int64.

    Margins are laid out by rank: slot 0 has the first constraint of every row, slot 1 the second of those rows that
    have one, and so on; with rows sorted by their number of constraints every slot belongs to a prefix of the rows.
    """
    per_row = np.diff(margins.starts)
    rows = np.argsort(-per_row, kind="stable")
    slots = []
    for rank in range(int(per_row.max(initial=0))):
        index = margins.starts[rows[per_row[rows] > rank]] + rank
        slots.append((margins.values[index].T.copy(), np.where(margins.strict[index], 0.0, _ALMOST_ZERO)))
    times = margins.times[rows]
    if not slots:
        return lambda x: np.full(len(x), margins.always, dtype=np.int64)
    to, back = _mover(device)
    moved = [(to(values), to(over)) for values, over in slots]
    weights = to(times)

    def count(x: Array) -> Array:
        counts = np.empty(len(x), dtype=np.int64)
        step = max(1, _CHUNK // len(times))
        for start in range(0, len(x), step):
            team = to(x[start : start + step].astype(np.float64))
            holds = team @ moved[0][0] > moved[0][1]
            for values, over in moved[1:]:
                holds[:, : len(over)] &= team @ values > over
            counts[start : start + step] = back((holds * weights).sum(-1))
        return counts + margins.always

    return count


def nll_scorer(true: Array, device: str | None = None) -> Callable[[Array], Array]:
    """Return a function from indicators (T, M) to the mean NLL in nats of the soft votes: (T,).

    `true` is (N, M) float64, the probability of the true class.
    """
    to, back = _mover(device)
    moved = to(np.ascontiguousarray(true.T))

    def score(x: Array) -> Array:
        scores = np.empty(len(x))
        step = max(1, _CHUNK // len(true))
        for start in range(0, len(x), step):
            part = x[start : start + step].astype(np.float64)
            vote = to(part / part.sum(1, keepdims=True)) @ moved
            vote = vote.clip(TINY, 1.0)
            logs = np.log(vote) if device is None else vote.log()
            scores[start : start + step] = -back(logs.mean(-1))
        return scores

    return score


def _mover(device: str | None) -> tuple[Callable[[Array], Any], Callable[[Any], Array]]:
    """To the device and back; without a device NumPy arrays stay as they are."""
    if device is None:
        return lambda array: array, lambda array: array
    import torch

    return lambda array: torch.as_tensor(array, device=device), lambda tensor: tensor.cpu().numpy()
