"""Train, propose, train, ...: rounds that go on wherever they were stopped, and that several processes can share.

A round's proposals are written to ``rounds/<k>.json`` before the first of them is trained, by whoever gets there first
and holds the lock; everybody else reads them. Members are trained once whoever asks, so all a process has to do after
any interruption is to begin again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.metrics import correct_rows, nll_rows, standard_error, true_class
from lrensemble.pool import Member, Pool, Record, RunSpec
from lrensemble.pool.files import clear_disk_errors, now, read_model, write_sealed
from lrensemble.pool.links import refuse_links
from lrensemble.pool.locks import alone
from lrensemble.pool.record import Strict
from lrensemble.recommend.budget import next_runs
from lrensemble.recommend.gain import greedy_weights
from lrensemble.recommend.propose import Proposal, read_known
from lrensemble.training import Plan, train_pool
from lrensemble.training.runner import create_pool
from lrensemble.training.watcher import Watcher

FOLDER = "rounds"


class Round(Strict):
    """``rounds/<number>.json``: what is trained in one round. Number 0 is the configuration itself."""

    number: int
    seed: int
    proposals: tuple[Proposal, ...]
    created: str

    @property
    def specs(self) -> list[RunSpec]:
        return [proposal.spec for proposal in self.proposals]


@dataclass(frozen=True)
class Limits:
    """When to stop: rounds beyond the configuration, runs in the pool, seconds from now; None is no limit."""

    rounds: int = 5
    members: int | None = None
    seconds: float | None = None

    def check(self, configured: int, ladder: bool = False) -> None:
        """Raise `UserError` for limits that allow nothing; a ladder's first runs may be all."""
        if self.rounds < 1:
            raise UserError(
                f"rounds = {self.rounds} is not possible: give 1 or more; the configuration alone is lrensemble train"
            )
        if self.members is not None and self.members < configured + (not ladder):
            raise UserError(
                f"members = {self.members} leaves nothing to propose: the configuration itself has {configured}; give "
                "more, or fewer policies"
            )
        if self.seconds is not None and not self.seconds > 0:
            raise UserError(f"a time of {self.seconds:g} s is not possible: give more than 0")


class _TimeIsUp(Exception):
    pass


class _Timed(Watcher):
    """A watcher that ends the training when a member is done and the time is over."""

    def __init__(self, watcher: Watcher, is_over: Callable[[], bool]) -> None:
        self.watcher, self.is_over = watcher, is_over
        self.start, self.stop = watcher.start, watcher.stop  # type: ignore[method-assign]

    def member_done(self, record: Record) -> None:
        self.watcher.member_done(record)
        if self.is_over():
            raise _TimeIsUp


def run_rounds(
    plan: Plan,
    limits: Limits,
    *,
    per_round: int = 4,
    seed: int = 0,
    ladder: Sequence[RunSpec] = (),
    watcher: Watcher | None = None,
    tell: Callable[[Round], None] = lambda done: None,
    **options: Any,
) -> str:
    """Train the configuration of `plan`, then rounds of proposals; return in words what ended it.

    Parameters
    ----------
    plan : Plan
        Of the configuration. Its control is not trained: its size is known at the end only.
    limits : Limits
        The time is looked at whenever a member is done.
    per_round : int
        Proposals of a round; fewer where the limit of members is reached.
    seed : int
        Of the proposals. The same configuration and seed give the same rounds.
    ladder : runs, optional
        `lrensemble.recommend.budget.first_runs`, in place of the configuration's policies: these are round 0, and what
        follows is chosen as by `next_runs`.
    tell : function
        Called with every round before it is trained.
    options
        Workers, threads, devices, ... of `train_pool`.

    Raises
    ------
    UserError
        Impossible limits; rounds of another configuration; a pool in which nothing can be learned from.
    """
    start = list(ladder) or plan.specs
    limits.check(len(start), bool(ladder))
    if per_round < 1:
        raise UserError(f"{per_round} proposals a round are not possible: give 1 or more")
    end = None if limits.seconds is None else time.monotonic() + limits.seconds
    timed = _Timed(watcher or Watcher(), lambda: end is not None and time.monotonic() >= end)
    pool = create_pool(plan, plan.pool)
    planned = 0
    try:
        for number in range(limits.rounds + 1):
            most = per_round if limits.members is None else min(per_round, limits.members - planned)
            if most < 1:
                return f"{planned} members"
            if timed.is_over():
                raise _TimeIsUp
            current = _round(pool, plan, start, number, most, seed, bool(ladder))
            tell(current)
            # Written with another limit, a round may have more runs than are wanted now.
            wanted = current.specs if number == 0 else current.specs[:most]
            train_pool(plan.of(wanted), watcher=timed, control=False, **options)
            planned += len(wanted)
    except _TimeIsUp:
        return "the time is up"
    return f"{limits.rounds} rounds"


def read_rounds(pool: Pool) -> list[Round]:
    """The rounds of a pool, in order."""
    rounds: list[Round] = []
    while (path := _path(pool, len(rounds))).exists():
        rounds.append(_read(path))
    return rounds


def _path(pool: Pool, number: int) -> Path:
    return pool.path / FOLDER / f"{number}.json"


def _read(path: Path) -> Round:
    return read_model(Round, path, "delete it, and the round is proposed again")


@contextmanager
def _alone(pool: Pool) -> Iterator[None]:
    """One process at a time proposes."""
    folder = pool.path / FOLDER
    with clear_disk_errors(folder):
        refuse_links(folder, itself=True)
        folder.mkdir(exist_ok=True)
    with alone(folder / ".lock"):
        yield


def _round(pool: Pool, plan: Plan, start: Sequence[RunSpec], number: int, n: int, seed: int, ladder: bool) -> Round:
    """Read a round, or make it and write it."""
    with _alone(pool):
        path = _path(pool, number)
        if path.exists():
            found = _read(path)
            if number == 0 and {s.model_dump_json() for s in found.specs} != {s.model_dump_json() for s in start}:
                raise UserError(
                    f"{path.parent} holds the rounds of another configuration: choose another pool, or delete the "
                    "folder to begin again with what is trained"
                )
            return found
        if number == 0:
            why = "the LR to begin with" if ladder else "from the configuration"
            proposals = [Proposal(spec=spec, explanation=why) for spec in start]
        else:
            proposals = next_runs(read_known(pool), plan.specs, n, seed + number, ladder=ladder)
        made = Round(number=number, seed=seed, proposals=tuple(proposals), created=now())
        write_sealed(path, made.model_dump(mode="json"))
        return made


def members_of(pool: Pool, rounds: list[Round]) -> list[Member]:
    """The runs of these rounds that are in the pool."""
    ids = [spec.id(pool.task.data_fingerprint) for done in rounds for spec in done.specs]
    members = [Member(pool.path / "members" / member_id) for member_id in ids]
    return [member for member in members if member.record_path.exists()]


@dataclass(frozen=True)
class Result:
    """The greedy team (NLL) of all runs up to a round, chosen and scored on the same validation rows.

    Attributes
    ----------
    trained : runs in the pool, diverged ones included
    team : members with a weight; `new` of them are not of round 0
    nll, accuracy, accuracy_se : of the team; the standard error is binomial over `rows`
    seconds : that all runs took so far
    """

    number: int
    trained: int
    complete: int
    team: int
    new: int
    nll: float
    accuracy: float
    accuracy_se: float
    rows: int
    seconds: float


def results(pool: Pool) -> list[Result]:
    """A result for every round after which a run is complete; snapshots and averages are left out."""
    rounds = read_rounds(pool)
    labels = pool.labels("val")
    configured = {member.id for member in members_of(pool, rounds[:1])}
    found = []
    for done in rounds:
        members = members_of(pool, rounds[: done.number + 1])
        complete = [member for member in pool.whole(members, "val") if member.record.status == "complete"]
        if not complete:
            continue
        predictions = np.asarray(pool.predictions("val", complete), dtype=np.float64)
        weights = greedy_weights(true_class(predictions, labels))
        team = np.tensordot(weights, predictions, axes=1)
        accuracy = float(correct_rows(team, labels).mean())
        found.append(
            Result(
                number=done.number,
                trained=len(members),
                complete=len(complete),
                team=int(np.count_nonzero(weights)),
                new=sum(member.id not in configured for member, w in zip(complete, weights, strict=True) if w),
                nll=float(nll_rows(team, labels).mean()),
                accuracy=accuracy,
                accuracy_se=standard_error(accuracy, len(labels)),
                rows=len(labels),
                seconds=float(sum(member.record.costs.get("seconds", 0.0) for member in members)),
            )
        )
    return found
