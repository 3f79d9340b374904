"""Which policy, with which budget, trains fastest to the accuracy of a baseline (FastSpiker, Bano et al. 2024)?

0. The baseline with several seeds sets the target. Short runs of constant LRs find the largest that does not kill.
1. Constant LRs, then the families of policies at the best two, with a fifth of the budget and one seed.
2. Settings of the best families, then the budget itself, in steps: a step's runs are policies of that budget, not the
   beginnings of longer ones.
3. `iso_accuracy.decide` with several seeds, the winner again with fresh ones; then the test split is read, once.

All runs are members of one pool, so the same call goes on where it was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.metrics import correct_rows
from lrensemble.policies.units import steps_per_epoch
from lrensemble.pool import Member, Pool
from lrensemble.pool.fastest import FILE, Confirmation, Contestant, Contested, Fastest
from lrensemble.pool.files import now, write_sealed
from lrensemble.recommend.fastest_trials import Trainer, Trials, largest_lr, search_policies
from lrensemble.recommend.iso_accuracy import (
    WINDOW,
    Curves,
    Verdict,
    decide,
    judge,
    non_inferior,
    row_error,
    worth_trying,
)
from lrensemble.recommend.ranking import shape_and_peak
from lrensemble.training import Plan

FRESH = 1000  # first of the seeds that nothing was chosen by


def find_fastest(
    plan: Plan,
    *,
    baseline: str,
    lrs: Sequence[float] | None = None,
    seeds: int = 3,
    finalists: int = 3,
    tell: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> Fastest:
    """Search, decide, confirm; write ``fastest.json`` into the pool and return what it says.

    Parameters
    ----------
    plan : Plan
        Its first member's data, model, optimizer, and epochs: the budget of the baseline.
    baseline : str
        The policy to be beaten.
    lrs : sequence of float, optional
        Constant LRs that are tried for a few epochs, to see which kill; default: around a range test's.
    seeds : int
        Of the decision, and as many fresh ones of the confirmation; 2 at least.
    finalists : int
        Candidates that are trained with all seeds, beside the baseline and constant LRs.
    options
        Workers, threads, devices, watcher, ... of `train_pool`.
    """
    if seeds < 2:
        raise UserError(f"seeds = {seeds} is not possible: an interval needs 2, and 3 or more to be of use")
    epochs = plan.specs[0].training.epochs
    if epochs < 2 * WINDOW:
        raise UserError(f"training.epochs = {epochs} is not possible here: the rule needs {2 * WINDOW} or more")
    trainer = Trainer(plan, options)
    trials = Trials(trainer)
    base = Contestant(policy=baseline, epochs=epochs, why="baseline")
    known = range(seeds)
    tell(f"0. baseline {base.policy}, {seeds} seeds of {epochs} epochs, and constant LRs")
    [base_members] = trainer.train([base], known)
    base_curves = trainer.curves(base_members, epochs)
    if not np.isfinite(base_curves.accuracy).all():
        raise UserError(f"the baseline {base.policy} did not finish with every seed: give another one")
    target = float(base_curves.mean_before(epochs).mean())
    largest, killed = largest_lr(trainer, lrs, plan, tell)
    wanted = worth_trying(base_curves)
    search_policies(trials, largest, epochs, wanted, finalists, tell)

    steps = steps_per_epoch(plan.task.rows("train"), trainer.base.training.batch_size)
    peak = (shape_and_peak(base.policy, steps, steps * epochs) or (b"", largest))[1]
    plain = Contestant(policy=f"FIX(k0={peak:g})", epochs=epochs, why="baseline without its decay")
    constant = Contestant(policy=trials.best_constant, epochs=epochs, why="best constant LR")
    chosen = [base, plain, constant, *trials.finalists(wanted, finalists)]
    tell(f"3. {len(chosen) - 1} candidates with {seeds} seeds")
    members = trainer.train(chosen, known)
    curves = [trainer.curves(group, c.epochs) for group, c in zip(members, chosen, strict=True)]
    different = [i for i in range(1, len(chosen)) if chosen[i].policy != plain.policy or i == 1]
    errors = [_row_error(plan.pool, members[i], base_members) for i in different]
    decision = decide(curves[0], [curves[i] for i in different], errors)
    verdicts = dict(zip(different, decision.verdicts, strict=True))
    winner = None if decision.fastest is None else different[decision.fastest]
    confirmation = None
    fresh = range(FRESH, FRESH + seeds)
    if winner is not None:
        epoch = verdicts[winner].epoch or 0
        tell(f"confirm {chosen[winner].policy} after epoch {epoch} with {seeds} fresh seeds")
        confirmation = _confirm(trainer, base, chosen[winner], epoch, fresh)
    verdicts |= {i: verdicts[1] for i in range(2, len(chosen)) if i not in verdicts}  # the same policy again
    rows = [_row(c, curves[i], verdicts.get(i), target) for i, c in enumerate(chosen)]
    found = Fastest(
        baseline=base.policy,
        epochs=epochs,
        seeds=tuple(known),
        fresh=tuple(fresh),
        target=target,
        val_rows=plan.task.rows("val"),
        clock=trainer.clock,
        killed=tuple(killed),
        largest=largest,
        tried=len(trials.scores),
        rows=tuple(rows),
        winner=winner,
        confirmation=confirmation,
        search_seconds=trainer.seconds,
        created=now(),
    )
    write_sealed(plan.pool / FILE, found.model_dump(mode="json"))
    return found


def _right(pool: Path, members: Sequence[Member], split: str) -> Array | None:
    """(S, N) which rows each member gets right; None where one is not complete."""
    if not all(member.record.status == "complete" for member in members):
        return None
    opened = Pool.open(pool)
    labels = opened.labels(split)
    return np.stack([correct_rows(np.asarray(p), labels) for p in opened.predictions(split, list(members))])


def _row_error(pool: Path, members: Sequence[Member], baseline: Sequence[Member]) -> float:
    """Of the finished models; infinite where a run ended early."""
    right, base = _right(pool, members, "val"), _right(pool, baseline, "val")
    return math.inf if right is None or base is None else row_error(right, base)


def _confirm(trainer: Trainer, base: Contestant, winner: Contestant, epoch: int, seeds: Sequence[int]) -> Confirmation:
    [base_members] = trainer.train([base], seeds)
    [members] = trainer.train([winner], seeds, snapshots=[epoch])
    snapshots = [trainer.snapshot(member, epoch) for member in members]
    base_curves, curves = trainer.curves(base_members, base.epochs), trainer.curves(members, winner.epochs)
    pool = trainer.plan.pool
    verdict = judge(curves, epoch, base_curves, _row_error(pool, snapshots, base_members))
    right = base_right = None
    if verdict.holds:
        right, base_right = _right(pool, snapshots, "test"), _right(pool, base_members, "test")
    test = None if right is None or base_right is None else _test(right, base_right)
    return Confirmation(
        epoch=epoch,
        seconds=_finite(verdict.seconds),
        baseline_seconds=_finite(base_curves.time_of(base.epochs)),
        difference=_finite(verdict.difference),
        bound=_finite(verdict.bound),
        p=verdict.p,
        holds=verdict.holds,
        test=test,
    )


def _test(right: Array, base: Array) -> dict[str, float]:
    bound, p = non_inferior(right.mean(1), base.mean(1), row_error(right, base))
    accuracy, baseline = float(right.mean()), float(base.mean())
    return {"accuracy": accuracy, "baseline": baseline, "bound": bound, "p": p, "rows": right.shape[1]}


def _row(candidate: Contestant, curves: Curves, verdict: Verdict | None, target: float) -> Contested:
    """`verdict` is None for the baseline itself."""
    return Contested(
        **candidate.model_dump(),
        epoch=verdict.epoch if verdict else None,
        seconds=_finite(verdict.seconds) if verdict else None,
        to_target=_finite(curves.time_to(target)),
        final=_finite(float(curves.mean_before(curves.epochs).mean())),
        difference=_finite(verdict.difference) if verdict else None,
        bound=_finite(verdict.bound) if verdict else None,
        p=1.0 if verdict is None else verdict.p,
        holds=verdict is not None and verdict.holds,
        curve=tuple(_finite(float(value)) for value in curves.accuracy.mean(0)),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
