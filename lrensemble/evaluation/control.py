"""The controls: seeds of the pool's best policy (is it the policies?), seeds of a default (was it the tuning?)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lrensemble.errors import UserError
from lrensemble.evaluation.results import Bill
from lrensemble.pool import Member, MemberSpec, Pool
from lrensemble.pool.record import DEFAULT, FINISHED


@dataclass(frozen=True)
class Seeds:
    """Runs of one policy that differ in nothing but the seed, as many as the pool has runs."""

    policy: str = ""
    runs: list[Member] = field(default_factory=list)
    bill: Bill | None = None  # of all that was trained to have them, with the tuning that found their policy
    note: str = ""  # what they are, or why there are none

    @property
    def complete(self) -> list[Member]:
        """Those that a team can have."""
        return [run for run in self.runs if run.record.status == "complete"]


def seeds_of_best(pool: Pool) -> Seeds:
    """Those of the pool's best run, which ``control: true`` trains once it is known."""
    control = _control(pool)
    if control is None and not pool.runs:
        return Seeds(note="no seeds-only control: lrensemble train did not train these members")
    best = pool.best_run()
    runs = [] if control is None or best is None else [run for run in _finished(control) if _alike(run, best)]
    if control is None or not (runs or best is None or [run for run in _finished(control) if not _is_default(run)]):
        return Seeds(note="no seeds-only control was trained (control: true in the configuration trains one)")
    if best is None:
        return Seeds(note="no run of the pool is complete: there is nothing to make a seeds-only control of")
    policy = str(best.record.spec.policy)
    if len(runs) < len(pool.runs):
        return Seeds(
            note=f"the seeds-only control has {len(runs)} of {len(pool.runs)} members with the best policy {policy}: "
            "run lrensemble train again"
        )
    runs = runs[: len(pool.runs)]
    complete = sum(run.record.status == "complete" for run in runs)
    if not complete:
        return Seeds(note=f"all {len(runs)} members of the seeds-only control diverged")
    tuning, seeds = bill_of(pool.runs), bill_of(runs)
    note = (
        f"seeds-only control: {complete} members, all {policy}, fresh seeds; with the {tuning.trainings} trainings "
        f"that found this policy its bill is {tuning + seeds}, that of the pool's teams {tuning}"
    )
    return Seeds(policy, runs, tuning + seeds, note)


def seeds_of_default(pool: Pool) -> Seeds:
    """Those of the policy that ``control`` named in the configuration, which no tuning was needed for.

    Of several defaults the one that was trained first: it alone was fixed before anything was known.
    """
    control = _control(pool)
    runs = [run for run in _finished(control) if _is_default(run)] if control else []
    if not runs:
        return Seeds()
    # Records know the second: of small runs the files tell more.
    first = min(runs, key=lambda run: (run.record.created, run.record_path.stat().st_mtime_ns))
    runs = [run for run in runs if _alike(run, first)]
    policy = str(first.record.spec.policy)
    if len(runs) < len(pool.runs):
        return Seeds(policy, note=f"the default {policy} has {len(runs)} of {len(pool.runs)} seeds: train again")
    runs = runs[: len(pool.runs)]
    bill = bill_of(runs)
    if all(run.record.status != "complete" for run in runs):
        return Seeds(policy, bill=bill, note=f"all {len(runs)} seeds of the default {policy} diverged")
    return Seeds(policy, runs, bill)


def bill_of(runs: Sequence[Member]) -> Bill:
    """What these runs cost together."""
    seconds = [run.record.costs.get("seconds") for run in runs]
    return Bill(len(runs), sum(map(_epochs, runs)), None if None in seconds else float(sum(s or 0 for s in seconds)))


def bill_of_pool(pool: Pool, members: Sequence[Member]) -> Bill | None:
    """Of every team of these members; None where some came of no runs of ours, which alone say what they cost."""
    runs = pool.runs
    known = {i for member in members for i in member.record.runs} <= {run.id for run in runs}
    return bill_of(runs) if runs and known else None


def is_seed_of(run: Member, spec: MemberSpec) -> bool:
    """Whether a run differs from `spec` in nothing but the seed."""
    return run.record.spec.model_copy(update={"seed": spec.seed}) == spec


def _alike(run: Member, other: Member) -> bool:
    return is_seed_of(run, other.record.spec)


def _is_default(run: Member) -> bool:
    return run.record.spec.notes == DEFAULT


def _control(pool: Pool) -> Pool | None:
    control = pool.control
    if control is not None and control.task.data_fingerprint != pool.task.data_fingerprint:
        raise UserError(f"{control.path} holds other data than {pool.path}: delete it and train again")
    return control


def _finished(control: Pool) -> list[Member]:
    return [run for run in control.readable if run.record.status in FINISHED]


def _epochs(member: Member) -> int:
    training = member.record.spec.training
    return training.epochs if training else 0
