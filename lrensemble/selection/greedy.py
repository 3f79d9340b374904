"""Greedy ensemble selection (Caruana et al. 2004, "Ensemble Selection from Libraries of Models")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.selection.ballots import Ballots
from lrensemble.selection.base import Selector, Step
from lrensemble.selection.flips import RunningAccuracy
from lrensemble.selection.running import RunningNLL, RunningVote

Running = RunningNLL | RunningAccuracy | RunningVote


@dataclass(eq=False, repr=False)
class Greedy(Selector):
    """Forward selection with replacement: in every step add the member that makes the vote best.

    A member may be added again; the weights are the counts. Ties go to a member already in the team, then to the
    better NLL, then to the lower index. Of all the steps' teams the best is returned (of equals the earliest). The
    picks are those of the plain loop over all members, to the last tie.

    Two votes for accuracy are a tie wherever they differ, so that of hard votes no second member improves on the first.
    Where the best of the steps is a single member, for accuracy, selection starts again from the two best members, and
    from those two or more best that vote best together; the best of the three ways is taken (of equals the first).

    Parameters
    ----------
    objective : {"nll", "accuracy"} or name of a metric
        Accuracy on a few hundred rows overfits; NLL, the default, much less.
    size : at most so many different members
    steps : int
        Additions, 25 to 40 in the literature.
    replacement : bool
        False: every member at most once.
    initial : int or "best"
        Start from the so many best members (sorted initialisation, section 2.2), or from as many as vote best.
    bags : int
        Mean of so many selections, each from a random share of the members (section 2.3); 0 for one from all.
    bag_share : float
        Share of the members in a bag.
    seed : int
        Of the bags.
    time_limit : float, optional
        At least one step is made.

    Attributes
    ----------
    trajectory_ : list of Step
        Member added, weights and score, for every step; with bags the mean after every bag, of no single member.
    """

    objective: str = "nll"
    size: int | None = None
    steps: int = 40
    replacement: bool = True
    initial: int | Literal["best"] = 0
    bags: int = 0
    bag_share: float = 0.5
    seed: int = 0
    vote: str = "soft"
    temperature: bool = False
    time_limit: float | None = None
    one_se: bool = False

    def _check(self, total: int) -> None:
        super()._check(total)
        most = total if self.size is None else self.size
        if self.steps < 1:
            raise UserError(f"steps {self.steps} is not possible: give 1 or more")
        if self.initial != "best" and not 0 <= self.initial <= most:
            raise UserError(f"initial {self.initial} is not possible: 0 to {most} members, or 'best'")
        if self.bags < 0 or not 0 < self.bag_share <= 1:
            raise UserError(f"bags {self.bags} of share {self.bag_share}: give 0 or more bags, a share above 0 up to 1")
        if self.bags and self.size is not None:
            raise UserError("size and bags do not go together: the mean of several teams has more members than each")

    def _choose(self, ballots: Ballots) -> tuple[Array, int]:
        total = ballots.total
        self._running, self._tie_break = _running(ballots, self.objective)
        self._tried = 0
        singles = ballots.singles(self.objective) if self.initial else None
        if not self.bags:
            self.trajectory_ = self._way(ballots, np.arange(total), singles)
            weights = _best(self.trajectory_).weights
        else:
            rng = np.random.default_rng(self.seed)
            share = max(1, round(self.bag_share * total))
            weights = np.zeros(total)
            for bag in range(1, self.bags + 1):
                if bag > 1 and self._over(f"{bag - 1} of {self.bags} bags"):
                    break
                steps = self._way(ballots, np.sort(rng.choice(total, share, replace=False)), singles)
                weights = weights + _best(steps).weights
                mean = weights / bag
                self.trajectory_.append(Step(mean, ballots.score(ballots.cast(mean), self.objective)))
        del self._running, self._tie_break
        return weights, self._tried

    def _way(self, ballots: Ballots, pool: Array, singles: Array | None) -> list[Step]:
        """Teams of all steps when the members of `pool` may be chosen, from one start or, if need be, others."""
        start = self._initial(ballots, _ranked(singles, pool)) if singles is not None else pool[:0]
        steps = self._climb(ballots, pool, start)
        most = len(pool) if self.size is None else min(self.size, len(pool))
        if self.objective == "nll" or _best(steps).size > 1 or most < 2 or self.stopped_:
            return steps
        scores = ballots.singles(self.objective)
        ranked = _distinct(ballots, _ranked(scores, pool), scores)[:most]
        if len(ranked) < 2:
            return steps
        self._tried += len(pool) + most
        together = 2 + int(np.argmax(ballots.prefixes(ranked, self.objective)[1:]))
        ways = [steps, *(self._climb(ballots, pool, ranked[:start]) for start in sorted({2, together}))]
        return max(ways, key=lambda way: _best(way).score)

    def _climb(self, ballots: Ballots, pool: Array, start: Array) -> list[Step]:
        """Teams of all steps from the members of `start`, when those of `pool` may be added."""
        self._running.reset()
        if self._tie_break is not self._running:
            self._tie_break.reset()
        counts = np.zeros(ballots.total, dtype=int)
        steps: list[Step] = []
        if len(start):
            for member in start:
                self._add(member, counts)
            weights = counts / counts.sum()
            steps.append(Step(weights, ballots.score(ballots.cast(weights), self.objective)))
        for done in range(self.steps):
            chosen = counts > 0
            open_ = pool if self.size is None or chosen.sum() < self.size else pool[chosen[pool]]
            if not self.replacement:
                open_ = open_[~chosen[open_]]
            if len(open_) == 0:
                break
            if steps and self._over(f"{done} of {self.steps} steps"):
                break
            ties, score = self._running.ties(open_)
            if len(ties) > 1 and chosen[ties].any():
                ties = ties[chosen[ties]]
            if len(ties) > 1 and self._tie_break is not self._running:
                ties, _ = self._tie_break.ties(ties)
            member = int(ties[0])
            self._add(member, counts)
            self._tried += len(open_)
            steps.append(Step(counts / counts.sum(), score, member))
        return steps

    def _initial(self, ballots: Ballots, ranked: Array) -> Array:
        """The members to start from, of all `ranked` from the best on."""
        self._tried += len(ranked)
        if self.initial != "best":
            return ranked[: self.initial]
        ranked = ranked[: self.size]
        self._tried += len(ranked)
        return ranked[: 1 + int(np.argmax(ballots.prefixes(ranked, self.objective)))]

    def _add(self, member: int, counts: Array) -> None:
        self._running.add(member)
        if self._tie_break is not self._running:
            self._tie_break.add(member)
        counts[member] += 1


def _best(steps: list[Step]) -> Step:
    return max(steps, key=lambda step: step.score)  # of equals the first


def _ranked(singles: Array, pool: Array) -> Array:
    """Members of `pool` from the best on, of equals the lower index first."""
    return np.asarray(pool[np.argsort(-singles[pool], kind="stable")])


def _distinct(ballots: Ballots, ranked: Array, scores: Array) -> Array:
    """Without copies of members that rank before them: together with its copy a member is still itself."""
    kept: list[int] = []
    for member in map(int, ranked):
        alike = (other for other in kept if scores[other] == scores[member])
        if not any(np.array_equal(ballots.member(other), ballots.member(member)) for other in alike):
            kept.append(member)
    return np.array(kept)


def _running(ballots: Ballots, objective: str) -> tuple[Running, Running]:
    """What scores the candidates, and what breaks their ties by NLL (the same where the objective is the NLL)."""
    nll: Running = RunningNLL(ballots) if ballots.vote.linear else RunningVote(ballots, "nll")
    if objective == "nll":
        return nll, nll
    fast = objective == "accuracy" and ballots.vote.ordered
    return RunningAccuracy(ballots) if fast else RunningVote(ballots, objective), nll
