"""Who scores the votes of teams: for any list of teams, or for all of them block by block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import joblib
import numpy as np

from lrensemble.array import Array
from lrensemble.diversity.lattice_votes import count_right, kernels, mean_nll
from lrensemble.diversity.list_votes import nll_scorer, right_counter
from lrensemble.diversity.margins import plurality_margins, soft_margins
from lrensemble.metrics.scores import true_class

Scorer = Callable[[int, int], Array]  # (first mask, number of teams) -> scores
Backend = Literal["auto", "numba", "numpy", "torch"]
VOTES = ("accuracy", "plurality", "nll")
SOFT = ("accuracy", "nll")  # of the soft vote, which needs probabilities
# Comparisons from which compiled code is worth a second of importing it; below, NumPy takes less than that.
_WORTH_COMPILED = 1_000_000_000


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
