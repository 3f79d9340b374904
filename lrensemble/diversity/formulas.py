"""The metrics as closed forms: ratios of linear and quadratic forms of a team's indicator in the counts.

With x the indicator of a team of L of the M members: a sum over its pairs of a symmetric matrix Q is
(x'Qx - diag(Q)'x) / 2, a sum over its members of a vector v is v'x. Whoever can give these two for many teams at once
(`Sums`: `lists.TeamList` for any teams, `lattice.Lattice` for all 2^M) gets every metric from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from lrensemble.array import Array
from lrensemble.diversity.counts import Counts
from lrensemble.diversity.registry import METRICS


class Sums(Protocol):
    """Sums over the members of T teams."""

    @property
    def sizes(self) -> Array:
        """L of every team: (T,) float64."""
        ...

    def pairs(self, matrix: Array) -> Array:
        """Sum of a symmetric (M, M) matrix over the pairs i < j of every team; NaN where a pair's entry is: (T,)."""
        ...

    def total(self, vector: Array) -> Array:
        """Sum of an (M,) vector over the members of every team: (T,)."""
        ...

    @property
    def per_row(self) -> tuple[Array, Array]:
        """Sum over rows of min(members right, members wrong), and rows on which no member of the team errs: (T,)."""
        ...


def cohen_kappa(c: Counts) -> Array:
    """(M, M): (p_o - p_e) / (1 - p_e) with both multiplied by N^2, so that all but the division is exact."""
    return _ratio(c.agree * c.rows - c.classes, c.rows**2 - c.classes)


def q_statistic(c: Counts) -> Array:
    """(M, M): (N11 N00 - N01 N10) / (N11 N00 + N01 N10)."""
    n10, n01, n11 = _contingency(c)
    return _ratio(n11 * c.both_wrong - n01 * n10, n11 * c.both_wrong + n01 * n10)


def correlation(c: Counts) -> Array:
    """(M, M): (N11 N00 - N01 N10) / sqrt(product of the four marginals)."""
    n10, n01, n11 = _contingency(c)
    root = np.sqrt(c.errors * (c.rows - c.errors))
    return _ratio(n11 * c.both_wrong - n01 * n10, root[:, None] * root)


def _contingency(c: Counts) -> tuple[Array, Array, Array]:
    n10 = c.errors - c.both_wrong  # row's member right, column's wrong
    n01 = c.errors[:, None] - c.both_wrong
    return n10, n01, c.rows - c.both_wrong - n10 - n01


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Element-wise ratio; 0/0 is NaN without a warning (no ratio here is x/0 with x > 0)."""
    hole = np.full(np.shape(numerator), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=hole, where=denominator != 0))


# The metrics that are means over pairs, as (M, M) matrices; NaN where undefined.
PAIR_VALUES: dict[str, Callable[[Counts], Array]] = {
    "CK": cohen_kappa,
    "QS": q_statistic,
    "BD": lambda c: _ratio(c.disagree, np.full_like(c.disagree, c.rows)),
    "rho": correlation,
    "DF": lambda c: _ratio(c.both_wrong, np.full_like(c.both_wrong, c.rows)),
}


_LINEAR = ("BD", "DF")  # whose means over pairs are sums of whole numbers


def pair_values(name: str) -> Callable[[Counts], Array]:
    """The function of a pairwise metric, ours or not: `Counts` -> (M, M)."""
    return METRICS[name].formula or PAIR_VALUES[name]


def evaluator(names: Iterable[str], c: Counts, *, undefined_pair: float = np.nan) -> Callable[[Sums], dict[str, Array]]:
    """Return a function that gives the raw values (T,) of the metrics `names` for the teams of any `Sums`.

    `undefined_pair` stands for pairs whose value is 0/0: NaN makes the team NaN. Matrices are made once, here.
    """
    names = list(names)
    pairwise = [name for name in names if METRICS[name].kind == "pairwise" and name not in _LINEAR]
    matrices = {name: pair_values(name)(c) for name in pairwise}
    matrices = {name: np.where(np.isnan(m), undefined_pair, m) for name, m in matrices.items()}

    def evaluate(sums: Sums) -> dict[str, Array]:
        # A team of one and a pool without rows have no diversity, whatever the formula gives.
        void = (sums.sizes < 2) | (c.rows == 0)
        return {name: np.where(void, np.nan, _value(name, sums, c, matrices)) for name in names}

    return evaluate


def _value(name: str, sums: Sums, c: Counts, matrices: dict[str, Array]) -> Array:
    size = sums.sizes
    pairs = size * (size - 1) / 2
    if name in matrices:
        return _ratio(sums.pairs(matrices[name]), pairs)
    if name == "BD":
        return _ratio(sums.pairs(c.disagree), pairs * c.rows)
    if name == "DF":
        return _ratio(sums.pairs(c.both_wrong), pairs * c.rows)
    if name == "KW":  # the sum over rows of l (L - l) counts every disagreeing pair once
        return _ratio(sums.pairs(c.disagree), c.rows * size**2)
    if name == "GD":  # 1 - P2 / P1, both times N L (L - 1)
        return 1 - _ratio(2 * sums.pairs(c.both_wrong), (size - 1) * sums.total(c.errors))
    if name == "FK":
        observed = _ratio(sums.pairs(c.agree), pairs * c.rows)
        by_chance = _ratio(2 * sums.pairs(c.classes) + sums.total(c.classes.diagonal()), (size * c.rows) ** 2)
        return _ratio(observed - by_chance, 1 - by_chance)
    if name == "E":
        return _ratio(sums.per_row[0], c.rows * (size - np.ceil(size / 2)))
    if name == "CF":  # 0 without any error, by definition
        touched = c.rows - sums.per_row[1]
        per_touched = _ratio(sums.total(c.errors), touched)
        return np.where(touched == 0, 0.0, _ratio(size - per_touched, size - 1))
    formula = METRICS[name].formula
    assert formula is not None  # ours are above
    return np.asarray(formula(sums, c))
