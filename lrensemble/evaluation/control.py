"""The control that decides whether LR diversity is the reason: the same selectors on a seeds-only pool."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.evaluation.results import Bill
from lrensemble.pool import Member, MemberSpec, Pool, Team
from lrensemble.pool.costs import inference_costs
from lrensemble.pool.record import FINISHED
from lrensemble.selection import MEMORY, make_selector


@dataclass(frozen=True)
class ControlVotes:
    """What the teams' selectors make of the control: votes on the test rows by the team's name."""

    votes: dict[str, Array] = field(default_factory=dict)  # (N, C)
    sizes: dict[str, int] = field(default_factory=dict)  # members of the team
    together: dict[str, Array] = field(default_factory=dict)  # (N, C), votes of teams from pool and control
    bill: Bill | None = None  # of the control, with the runs of the pool that found its policy
    note: str = ""  # about the control, or why there is none
    left_out: dict[str, str] = field(default_factory=dict)  # why single teams are


def against_control(pool: Pool, teams: list[Team], average: str = "") -> ControlVotes:
    """Run every team's selector on the control's validation split and take the vote on its test split.

    `average` is the name of the average of all members, which takes part too; none if empty.
    """
    control = pool.control
    if control is None and not pool.runs:
        return ControlVotes(note="no seeds-only control: lrensemble train did not train these members")
    if control is None:
        return ControlVotes(note="no seeds-only control was trained (control: true in the configuration trains one)")
    if control.task.data_fingerprint != pool.task.data_fingerprint:
        raise UserError(f"{control.path} holds other data than {pool.path}: delete it and train again")
    best = pool.best_run()
    if best is None:
        return ControlVotes(note="no run of the pool is complete: there is nothing to make a seeds-only control of")
    members = _matching(best.record.spec, control)
    finished = pool.runs
    policy = best.record.spec.policy
    if len(members) < len(finished):
        return ControlVotes(
            note=f"the seeds-only control has {len(members)} of {len(finished)} members with the best policy {policy}: "
            "run lrensemble train again"
        )
    members = members[: len(finished)]
    usable = [member for member in members if member.record.status == "complete"]
    if not usable:
        return ControlVotes(note=f"all {len(members)} members of the seeds-only control diverged")
    tuning, seeds = bill_of(finished), bill_of(members)
    note = (
        f"seeds-only control: {len(usable)} members, all {policy}, fresh seeds; with the {tuning.trainings} trainings "
        f"that found this policy its bill is {tuning + seeds}, that of the pool's teams {tuning}"
    )

    candidates = sorted(member.id for member in pool.usable("val"))
    left_out = {
        team.name: f"not compared with seeds-only: selected from the best {team.parameters['best']} members alone"
        if "best" in team.parameters
        else f"selected from {len(team.candidates)} members, the pool has {len(candidates)} now: select again to "
        "compare with seeds-only"
        for team in teams
        if team.candidates != candidates
    }
    selectors = {}
    for team in teams:
        try:
            selectors[team.name] = make_selector(team.selector, **team.parameters)
        except UserError as error:  # of another version, or not installed here
            left_out[team.name] = f"not compared with seeds-only: {error}"
    if average:
        selectors[average] = make_selector("all")
    val_labels = control.labels("val")
    val, test = (control.predictions(split, usable).within(MEMORY) for split in ("val", "test"))
    both = [*pool.usable("val", "test"), *usable]
    all_val, all_test = (pool.predictions(split, both).within(MEMORY) for split in ("val", "test"))
    units = {team.name: team.cost_unit for team in teams}
    votes: dict[str, Array] = {}
    sizes: dict[str, int] = {}
    together: dict[str, Array] = {}
    for name, selector in selectors.items():
        if name in left_out:
            continue
        try:
            # Its own vote, temperatures and costs, as for the team.
            costs, _ = inference_costs(usable, units.get(name) or None)
            votes[name] = selector.fit(val, val_labels, costs=costs).predict_proba(test)
            sizes[name] = len(selector.members_)
        except UserError as error:  # another number of members: too few for a size, too many for brute force
            left_out[name] = f"not compared with seeds-only: {error}"
            continue
        with contextlib.suppress(UserError):  # too many for brute force: the question stays open
            costs, _ = inference_costs(both, units.get(name) or None)
            together[name] = selector.fit(all_val, val_labels, costs=costs).predict_proba(all_test)
    return ControlVotes(votes, sizes, together, tuning + seeds, note, left_out)


def bill_of(runs: Sequence[Member]) -> Bill:
    """What these runs cost together."""
    seconds = [run.record.costs.get("seconds") for run in runs]
    return Bill(len(runs), sum(map(_epochs, runs)), None if None in seconds else float(sum(s or 0 for s in seconds)))


def _matching(spec: MemberSpec, control: Pool) -> list[Member]:
    """Finished members of the control that differ from the pool's best run in nothing but the seed."""
    return [
        member
        for member in control.readable
        if member.record.status in FINISHED and member.record.spec.model_copy(update={"seed": spec.seed}) == spec
    ]


def _epochs(member: Member) -> int:
    training = member.record.spec.training
    return training.epochs if training else 0
