"""Strategies that spend B trainings, on a bank where every run that they may ask for is trained already.

A bank has several seeds of every policy. One order of the replay is a `Deck`: the seeds of every policy in a random
order, and the random policies in one, of which a share is left out, as another draw of candidates would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError
from lrensemble.metrics import correct_rows, nll_of, nll_rows
from lrensemble.pool import Pool, RunSpec
from lrensemble.recommend.budget import first_runs, half_decades, next_runs
from lrensemble.recommend.candidates import AGAIN
from lrensemble.recommend.features import PEAK, spec_features
from lrensemble.recommend.gain import greedy_weights
from lrensemble.recommend.propose import Known
from lrensemble.recommend.runs import are_complete, followed, read_runs, took
from scripts.replay.replay import Bench, replay
from scripts.replay.tpe import tpe

Array = NDArray[Any]
LEFT_OUT = 0.3  # share of the random policies that an order does not have


@dataclass(frozen=True, eq=False)
class Bank(Bench):
    """A fully trained pool with several seeds of every policy; `seconds` are NaN for runs that are not complete.

    Attributes
    ----------
    name : of the task
    runs_of : policy -> its runs, numbers from 0 to M - 1
    drawn : the policies that are random
    specs : M, with the policies that were followed
    train_rows : rows of the training split
    """

    name: str
    runs_of: dict[str, list[int]]
    drawn: list[str]
    specs: list[RunSpec]
    train_rows: int

    def known(self, runs: Sequence[int], specs: Sequence[RunSpec]) -> Known:
        """What would have been known after these runs, whose seeds are called as `specs` say."""
        done = np.array(runs, dtype=int)
        good = done[self.complete[done]]
        return Known(
            specs=list(specs),
            complete=self.complete[done],
            seconds=np.where(self.complete[done], self.seconds[done], np.nan),
            true=self.true[good],
            right=self.right[good],
            others=np.empty((0, self.true.shape[1])),
            chance=1 / self.val.shape[2],
            train_rows=self.train_rows,
        )


def read_bank(pool: Pool, drawn: Sequence[str]) -> Bank:
    """The finished runs of a pool; `drawn` are its random policies."""
    members = read_runs(pool, "val", "test")
    complete = are_complete(members)
    policies = [str(member.record.spec.policy) for member in members]
    runs_of: dict[str, list[int]] = {}
    for i, policy in enumerate(policies):
        runs_of.setdefault(policy, []).append(i)
    arrays = {}
    for split in ("val", "test"):
        arrays[split] = np.zeros((len(members), pool.task.rows[split], len(pool.task.class_names)), dtype=np.float32)
        for i in np.flatnonzero(complete):
            arrays[split][i] = next(iter(pool.predictions(split, [members[i]])))
    specs = followed(members)
    kept = [policy for policy in drawn if policy in runs_of]
    if not kept:
        raise UserError(f"{pool.path} has no run of the random policies of its configuration: train it first")
    return Bank.of(
        name=pool.task.name,
        policies=policies,
        runs_of=runs_of,
        drawn=kept,
        specs=specs,
        features=spec_features(specs, pool.task.rows["train"]),
        complete=complete,
        seconds=took(members),
        expected_seconds=np.ones(len(members)),
        **arrays,
        val_labels=pool.labels("val"),
        test_labels=pool.labels("test"),
        train_rows=pool.task.rows["train"],
    )


class Deck:
    """One order: which seed of a policy comes first, and which random policies there are."""

    def __init__(self, bank: Bank, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.bank, self.seed = bank, seed
        self.seeds = {policy: rng.permutation(runs).tolist() for policy, runs in bank.runs_of.items()}
        order = [bank.drawn[i] for i in rng.permutation(len(bank.drawn))]
        self.drawn = order[: round((1 - LEFT_OUT) * len(order))]
        self.used: Counter[str] = Counter()

    def has(self, policy: str) -> bool:
        return self.used[policy] < len(self.seeds.get(policy, ()))

    def take(self, policy: str) -> int:
        """The next seed of a policy."""
        self.used[policy] += 1
        return int(self.seeds[policy][self.used[policy] - 1])


Strategy = Callable[[Deck, int], list[int]]  # and a budget -> so many runs, in the order of training


def random_runs(deck: Deck, budget: int) -> list[int]:
    """Random policies, one seed of each."""
    return [deck.take(policy) for policy in deck.drawn[:budget]]


def tpe_runs(deck: Deck, budget: int) -> list[int]:
    """Optuna's TPE over the random policies, one seed of each."""
    runs = [deck.take(policy) for policy in deck.drawn]
    return [runs[i] for i in replay(tpe, deck.bank.only(runs), budget=budget, seed=deck.seed)]


def seeds_of(policy: str, deck: Deck, budget: int) -> list[int]:
    """One fixed policy, again and again."""
    return [deck.take(policy) for _ in range(budget) if deck.has(policy)]


def _best_first(deck: Deck, runs: Sequence[int]) -> list[int]:
    """Positions of the complete ones, by their validation NLL."""
    bank = deck.bank
    good = [i for i, run in enumerate(runs) if bank.complete[run]]
    return sorted(good, key=lambda i: float(nll_of(bank.true[runs[i]]).mean()))


def _ladder(deck: Deck, budget: int) -> list[int]:
    """The decades and the half decades of the product."""
    base = deck.bank.specs[0]
    specs = first_runs([base])
    runs = [deck.take(spec.policy) for spec in specs]
    known = deck.bank.known(runs, specs)
    runs += [deck.take(spec.policy) for spec in half_decades(known, base)]
    return runs[:budget]


def decades_and_seeds(deck: Deck, budget: int) -> list[int]:
    """The ladder, then seeds of its best; where the bank has no more of them, of the next best."""
    return _and_seeds(deck, _ladder(deck, budget), budget)


def half_and_half(deck: Deck, budget: int) -> list[int]:
    """Half of the budget for random policies, half for seeds of the best (where none is left, of the next best)."""
    return _and_seeds(deck, random_runs(deck, budget // 2), budget)


def _and_seeds(deck: Deck, runs: list[int], budget: int) -> list[int]:
    ranked = [deck.bank.policies[runs[i]] for i in _best_first(deck, runs)]
    more = [deck.take(policy) for policy in ranked for _ in range(budget) if deck.has(policy)]
    return [*runs, *more][:budget]


def hyper_deep(deck: Deck, budget: int) -> list[int]:
    """Wenzel et al. 2020: random search, a greedy team of it, then seeds of the team's policies in turn."""
    runs = random_runs(deck, budget // 2)
    good = [run for run in runs if deck.bank.complete[run]]
    if not good:
        return runs
    weights = greedy_weights(deck.bank.true[good])
    chosen = [deck.bank.policies[good[i]] for i in np.argsort(-weights, kind="stable") if weights[i]]
    rest = [deck.bank.policies[run] for run in good]
    for policies in (chosen, rest):  # the bank's seeds may end before the budget
        while len(runs) < budget and any(map(deck.has, policies)):
            runs += [deck.take(policy) for policy in policies if deck.has(policy)]
    return runs[:budget]


def ours(deck: Deck, budget: int, *, workers: int = 1, start: str = "decades") -> list[int]:
    """`lrensemble.recommend.budget`, whose candidates are what the bank has: `workers` runs at a time."""
    bank = deck.bank
    base = bank.specs[0].model_copy(update={"seed": 0})
    peak = {policy: float(10 ** bank.features[runs[0], PEAK]) for policy, runs in bank.runs_of.items()}
    asked = {str(bank.specs[run].policy): policy for policy, runs in bank.runs_of.items() for run in runs}
    allowed = {
        *deck.drawn,
        *(policy for policy in bank.runs_of if policy.startswith("COS(") and policy not in bank.drawn),
    }
    runs: list[int] = []
    specs: list[RunSpec] = []

    def candidates(
        bases: Sequence[RunSpec], best: Sequence[RunSpec], taken: Sequence[RunSpec], low: float, high: float, seed: int
    ) -> list[RunSpec]:
        new = [p for p in allowed if not deck.used[p] and low <= peak[p] <= high]
        new = new or [p for p in allowed if deck.has(p)]
        again = [text for text in dict.fromkeys(spec.policy for spec in best) if deck.has(asked[text])][:AGAIN]
        texts = dict.fromkeys([*sorted(new), *again])
        return [base.model_copy(update={"policy": t, "seed": deck.used[asked.get(t, t)]}) for t in texts]

    def train(wanted: Sequence[str]) -> None:
        for text in wanted[: budget - len(runs)]:
            policy = asked.get(text, text)
            runs.append(deck.take(policy))
            specs.append(bank.specs[runs[-1]].model_copy(update={"seed": deck.used[policy] - 1}))

    if start == "decades":
        train([spec.policy for spec in first_runs([base])])
    else:
        train(sorted(policy for policy in bank.runs_of if policy.startswith("LRTUNER(")))
    rng = np.random.default_rng(deck.seed)
    while len(runs) < budget:
        n = min(workers, budget - len(runs))
        seed = int(rng.integers(2**31))
        known = bank.known(runs, specs)
        found = next_runs(known, [base], n, seed, ladder=start == "decades", candidates=candidates)
        train([proposal.spec.policy for proposal in found])
    return runs


def half_ours(deck: Deck, budget: int) -> list[int]:
    """Half of the budget as `ours` spends it, half for seeds of the best of it: a seeds-only control at equal bills."""
    return _and_seeds(deck, ours(deck, budget // 2), budget)


STRATEGIES: dict[str, Strategy] = {
    "random + greedy": random_runs,
    "TPE + greedy": tpe_runs,
    "decades + seeds": decades_and_seeds,
    "half and half": half_and_half,
    "hyper-deep": hyper_deep,
    "ours": ours,
    "ours, 4 at a time": partial(ours, workers=4),
    "half ours, half seeds": half_ours,
    "ours, measured start": partial(ours, start="measured"),
}
# What they do does not depend on the budget: one order serves all.
ANYTIME = ("random + greedy", "TPE + greedy", "decades + seeds", "ours", "ours, 4 at a time", "ours, measured start")


@dataclass(frozen=True)
class Score:
    """The greedy team (NLL) after so many trainings, and the best single run among them (by validation accuracy)."""

    seconds: float
    accuracy: float
    nll: float
    single_accuracy: float
    single_nll: float


def score(bank: Bank, runs: Sequence[int]) -> Score:
    """On test, of what validation chose; a uniform guess where no run is complete."""
    done = np.array(runs, dtype=int)
    good = done[bank.complete[done]]
    seconds = float(np.nansum(bank.seconds[done]))
    if not len(good):
        guess = 1 / bank.test.shape[2]
        return Score(seconds, guess, -float(np.log(guess)), guess, -float(np.log(guess)))
    weights = greedy_weights(bank.true[good])
    team = np.tensordot(weights, bank.test[good].astype(np.float64), 1)
    nll = nll_of(bank.true[good]).mean(1)
    single = bank.test[good[np.lexsort((nll, -bank.right[good].mean(1)))[0]]]
    return Score(
        seconds,
        *(
            float(x)
            for p in (team, single)
            for x in (correct_rows(p, bank.test_labels).mean(), nll_rows(p, bank.test_labels).mean())
        ),
    )
