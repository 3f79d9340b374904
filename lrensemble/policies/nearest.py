"""The short policies nearest to a run's LRs: what a controller found, written down."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrensemble.policies.policy import Policy

NEAR = 0.02  # mean difference, over the mean LR, up to which the shortest policy is preferred
POINTS = 2000  # of the budget that are compared at most
SHARES = (0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90)  # of the budget, in per cent
MOST_PIECES = 8


@dataclass(frozen=True)
class Near:
    """A policy, how many numbers it has, and how far it is: mean difference over the mean LR."""

    policy: Policy
    numbers: int
    error: float


def nearest_policies(lr: NDArray[np.float64]) -> list[Near]:
    """The best policy of every family for the LRs of all steps (T,); the recommended one first, then by error.

    Recommended is the one with the fewest numbers among those within `NEAR`, else the nearest. Lengths are shares of
    the budget. A scale is fitted by least squares, what else a family has by its best value on a grid.
    """
    steps = np.unique(np.linspace(0, len(lr) - 1, POINTS).astype(np.int64))
    wanted = lr[steps]
    families = [_best(texts, numbers, wanted, steps, len(lr)) for numbers, texts in _families()]
    families += [_pieces(count, wanted, steps, len(lr)) for count in range(2, MOST_PIECES + 1)]
    families = list({near.policy: near for near in families}.values())
    close = [near for near in families if near.error <= NEAR]
    first = min(close, key=lambda near: (near.numbers, near.error)) if close else min(families, key=lambda n: n.error)
    return [first, *sorted((near for near in families if near is not first), key=lambda near: near.error)]


def _families() -> Iterable[tuple[int, list[str]]]:
    """How many numbers a family has, and its policies with ``{k}`` where the scale stands."""
    yield 1, ["FIX(k0={k})"]
    yield 1, ["COS(k0={k}, l=100%)"]
    yield 2, [f"POLY(k0={{k}}, p={p:g}, l=100%)" for p in (0.5, 1, 1.5, 2, 3, 4)]
    yield 2, [f"EXP(k0={{k}}, gamma={g:g}, per=1%)" for g in (1 - x for x in np.geomspace(0.001, 0.2, 40).round(4))]
    ramps = [(w, h) for w, h in itertools.product(SHARES, SHARES) if w + h < 100]
    yield 3, [f"KNEE(k0={{k}}, warmup={w}%, hold={h}%)" for w, h in ramps]
    yield 2, [f"WARMUP(COS(k0={{k}}, l=100%), l={w}%)" for w in SHARES[1:]]
    yield 2, [f"WARMUP(FIX(k0={{k}}), l={w}%)" for w in SHARES[1:]]
    falls = itertools.product((0.1, 0.2, 0.3, 0.5, 0.7), (10, 20, 25, 30, 40, 50))
    yield 3, [f"STEP(k0={{k}}, gamma={gamma:g}, l={share}%)" for gamma, share in falls]


def _best(
    texts: Sequence[str], numbers: int, wanted: NDArray[np.float64], steps: NDArray[np.int64], total: int
) -> Near:
    found = []
    for text in texts:
        shape = _values(Policy.parse(text.format(k=1)), steps, total)
        scale = float(shape @ wanted / (shape @ shape)) if shape.any() else 0.0
        found.append((_error(scale * shape, wanted), f"{max(scale, 0.0):.4g}", text))
    _, scale_text, text = min(found, key=lambda item: item[0])
    return _near(Policy.parse(text.format(k=scale_text)), numbers, wanted, steps, total)


def _pieces(count: int, wanted: NDArray[np.float64], steps: NDArray[np.int64], total: int) -> Near:
    """A constant on every one of at most `count` stretches, cut where the squared difference falls most."""
    from sklearn.tree import DecisionTreeRegressor  # it takes a while to import

    tree = DecisionTreeRegressor(max_leaf_nodes=count).fit(steps[:, None], wanted)
    values = tree.predict(steps[:, None])
    starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist()]
    at = [f"{100 * steps[i] / total:.4g}%" for i in starts]
    k = [float(f"{values[i]:.4g}") for i in starts]
    return _near(Policy.make("POINTS", at=at, k=k, between="hold"), 2 * len(at) - 1, wanted, steps, total)


def _near(policy: Policy, numbers: int, wanted: NDArray[np.float64], steps: NDArray[np.int64], total: int) -> Near:
    return Near(policy, numbers, _error(_values(policy, steps, total), wanted))


def _values(policy: Policy, steps: NDArray[np.int64], total: int) -> NDArray[np.float64]:
    values: NDArray[np.float64] = policy.bind(steps_per_epoch=1, total_steps=total)(steps)
    return values


def _error(values: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    return float(np.abs(values - wanted).mean() / max(float(wanted.mean()), 1e-300))
