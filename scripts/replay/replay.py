"""In which order would a strategy have trained the members of a pool, and how good would the team have been?

Everything is known of a fully trained pool; a strategy gets what it would have known then. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lrensemble.metrics import correct_rows, nll_of, nll_rows, true_class
from lrensemble.recommend.gain import Evidence, choose, greedy_weights

Array = NDArray[Any]
START = 3  # random members before a strategy begins


@dataclass(frozen=True, eq=False)
class Bench:
    """A fully trained pool.

    Attributes
    ----------
    features : (M, F) of all runs, in the order of the configuration
    policies : M texts
    complete : (M,) bool; the others diverged or were stopped
    val, test : (M, N, C) probabilities; whatever for members that are not complete
    val_labels, test_labels : (N,)
    seconds : (M,) that training took
    expected_seconds : (M,) that could be expected before
    true, right : (M, N) probability of the true class on validation, and whether it is the most probable one
    """

    features: Array
    policies: Sequence[str]
    complete: Array
    val: Any
    test: Any
    val_labels: Array
    test_labels: Array
    seconds: Array
    expected_seconds: Array
    true: Array
    right: Array

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def of(cls, *, val: Any, val_labels: Array, **rest: Any) -> Self:
        """Build one; what validation says of each member is computed."""
        true = np.stack([true_class(np.asarray(p), val_labels) for p in val]).astype(np.float64)
        right = np.stack([correct_rows(np.asarray(p), val_labels) for p in val]).astype(bool)
        return cls(val=val, val_labels=val_labels, true=true, right=right, **rest)

    def only(self, runs: Sequence[int]) -> Bench:
        """Some of the runs."""
        chosen = np.asarray(runs, dtype=int)
        return Bench(
            features=self.features[chosen],
            policies=[self.policies[i] for i in runs],
            complete=self.complete[chosen],
            val=[self.val[i] for i in runs],
            test=[self.test[i] for i in runs],
            val_labels=self.val_labels,
            test_labels=self.test_labels,
            seconds=self.seconds[chosen],
            expected_seconds=self.expected_seconds[chosen],
            true=self.true[chosen],
            right=self.right[chosen],
        )


@dataclass(frozen=True, eq=False)
class Known:
    """What a strategy may look at: the candidates' features and expected seconds, and the trained members' results."""

    evidence: Evidence
    trained: Array  # (T,) numbers of the members that `evidence` is about, complete ones
    candidates: Array  # (Q,) numbers of the members that are not trained, in the order of the configuration
    features: Array  # (Q, F)
    policies: tuple[str, ...]  # of the candidates
    trained_policies: tuple[str, ...]
    failed_policies: tuple[str, ...]
    seconds: Array  # (Q,) expected


Strategy = Callable[[Known, int], int]  # what is known, and a seed -> position among the candidates


def known(bench: Bench, trained: Sequence[int]) -> Known:
    """What would have been known after training these members."""
    done = np.array(trained, dtype=int)
    good, bad = done[bench.complete[done]], done[~bench.complete[done]]
    left = np.setdiff1d(np.arange(len(bench)), done)
    evidence = Evidence(
        features=bench.features[good],
        true=bench.true[good],
        right=bench.right[good],
        failed=bench.features[bad],
        others=np.empty((0, bench.true.shape[1])),
        chance=1 / bench.val[0].shape[1],
    )
    return Known(
        evidence=evidence,
        trained=good,
        candidates=left,
        features=bench.features[left],
        policies=tuple(bench.policies[i] for i in left),
        trained_policies=tuple(bench.policies[i] for i in good),
        failed_policies=tuple(bench.policies[i] for i in bad),
        seconds=bench.expected_seconds[left],
    )


def replay(strategy: Strategy, bench: Bench, *, budget: int, seed: int) -> list[int]:
    """The order in which `strategy` trains: `START` random members (by `seed`), then its choices; `budget` in all."""
    rng = np.random.default_rng(seed)
    order = [int(i) for i in rng.permutation(len(bench))[:START]]
    while len(order) < min(budget, len(bench)):
        now = known(bench, order)
        order.append(int(now.candidates[strategy(now, int(rng.integers(2**31)))]))
    return order


@dataclass(frozen=True)
class Score:
    """The team after so many trained members: chosen by greedy (NLL) on validation; the test split only looks on."""

    members: int  # trained, diverged ones included
    seconds: float  # spent
    val_nll: float
    val_accuracy: float
    test_nll: float
    test_accuracy: float


def team_of(bench: Bench, trained: Sequence[int] | Array) -> tuple[Array, Array] | None:
    """What the team of trained members says of validation and test; None while no member is complete."""
    done = np.array(trained, dtype=int)
    good = done[bench.complete[done]]
    if not len(good):
        return None
    weights = greedy_weights(bench.true[good])
    chosen = [(int(i), w) for i, w in zip(good, weights, strict=True) if w]
    val, test = (sum(w * np.asarray(p[i], dtype=np.float64) for i, w in chosen) for p in (bench.val, bench.test))
    return np.asarray(val), np.asarray(test)


def scores(order: Sequence[int], bench: Bench, budgets: Sequence[int]) -> list[Score | None]:
    """Score after each of `budgets` trained members; None while no member is complete."""
    found: list[Score | None] = []
    for budget in budgets:
        done = np.array(order[:budget], dtype=int)
        team = team_of(bench, done)
        if team is None:
            found.append(None)
            continue
        val, test = team
        found.append(
            Score(
                members=budget,
                seconds=float(bench.seconds[done].sum()),
                val_nll=float(nll_rows(val, bench.val_labels).mean()),
                val_accuracy=float(correct_rows(val, bench.val_labels).mean()),
                test_nll=float(nll_rows(test, bench.test_labels).mean()),
                test_accuracy=float(correct_rows(test, bench.test_labels).mean()),
            )
        )
    return found


# Strategies


def random_order(now: Known, seed: int) -> int:
    """Any member."""
    return int(np.random.default_rng(seed).integers(len(now.candidates)))


def grid_order(now: Known, seed: int) -> int:
    """The first one of the configuration that is not trained."""
    return 0


def expected_best(now: Known, seed: int) -> int:
    """The lowest expected NLL of its own, by the surrogate: quality without novelty."""
    return choose(now.evidence, now.features, now.seconds, 1, seed, by="nll")[0][0]


def expected_gain(now: Known, seed: int) -> int:
    """Ours: the highest expected gain of the team per second."""
    return choose(now.evidence, now.features, now.seconds, 1, seed)[0][0]


def clairvoyant_best(bench: Bench) -> Strategy:
    """A reference that peeks: the highest true validation accuracy first."""
    accuracy = np.where(bench.complete, bench.right.mean(1), -1)
    return lambda now, seed: int(accuracy[now.candidates].argmax())


def clairvoyant_gain(bench: Bench) -> Strategy:
    """A reference that peeks: the member that lowers the validation NLL of the greedy team so far most.

    The best single step on validation, not in every case the beginning of the best order.
    """

    def strategy(now: Known, seed: int) -> int:
        good = now.candidates[bench.complete[now.candidates]]
        if not len(good):
            return 0
        if not len(now.trained):
            best = int(good[nll_of(bench.true[good]).mean(1).argmin()])
        else:
            have = bench.true[now.trained]
            team = greedy_weights(have) @ have
            losses = [
                min(float(nll_of(team + w * (bench.true[i] - team)).mean()) for w in (0.1, 0.2, 0.35, 0.6, 1.0))
                for i in good
            ]
            best = int(good[int(np.argmin(losses))])
        return int(np.flatnonzero(now.candidates == best)[0])

    return strategy
