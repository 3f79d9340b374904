"""Does a policy reach a target validation accuracy within a budget? (Wu & Liu 2023)

A run that is asked this is a member like any other, but for ``training.until`` (it ends at the target) and a note that
it may be given up when `curves` says that the target is out of reach. So the question is resumable, an answer is kept,
and whatever else the pool knows of the same run answers too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lrensemble.errors import UserError
from lrensemble.metrics import standard_error
from lrensemble.policies import Length, Policy
from lrensemble.policies.units import steps_per_epoch
from lrensemble.pool import Member, Named, Pool, RunSpec
from lrensemble.pool.record import FINISHED
from lrensemble.recommend.answer import Attempt, SeedResult, Verification
from lrensemble.recommend.change import Change, changes
from lrensemble.recommend.curves import Backtest, backtest, curve_of, finished_curves, is_hopeless, upper_bound
from lrensemble.recommend.ranking import check_target
from lrensemble.recommend.runs import run_of
from lrensemble.renamed import renamed
from lrensemble.training import Config, make_plan, train_pool
from lrensemble.training.plan import Plan
from lrensemble.training.runner import default_pool

MAY_GIVE_UP = {"verify": "may be given up"}  # the note of such a member
MOST_TRIES = 100


@renamed(attempted="tell")
def verify(
    config: Config,
    policy: str,
    target: float,
    *,
    budget: str | None = None,
    seeds: int = 1,
    tries: int = 0,
    give_up: bool = True,
    pool: str | Path | None = None,
    trust: bool = True,
    tell: Callable[[Attempt], None] = lambda attempt: None,
    **options: Any,
) -> Verification:
    """Train `policy` on the task of `config` until it reaches `target`, cannot any more, or has spent its budget.

    Parameters
    ----------
    config : Config
        Data, model, optimizer and training count; its policies, seeds and grid do not.
    target : float
        Validation accuracy, above 0 and at most 1.
    budget : str, optional
        Epochs (``20e``) or steps (``2000``, rounded down to whole epochs); default: the configuration's epochs.
    seeds : int
        Runs; the answer is yes when more than half of them reach the target.
    tries : int
        On no, so many changed policies are tried, one after the other, until one reaches the target.
    give_up : bool
        End a run early when its curve says that the target is out of reach.
    pool : path, optional
        Where the runs are members; default: the configuration's with ``-verify`` behind its name, so that the pool of
        which teams are made holds no stopped runs.
    trust : bool
        False: `config` is a pool's own, so that its model is built as a record's is (see `make_plan`).
    tell : callable
        Is told of every attempt as it ends.
    options
        Workers, threads, devices, ... of `train_pool`.

    Raises
    ------
    UserError
        A target that is none, a policy that cannot be read, a budget below one epoch, and what `make_plan` finds.
    """
    check_target(target)
    for name, value, least, most in (("seeds", seeds, 1, 1000), ("tries", tries, 0, MOST_TRIES)):
        if not least <= value <= most:
            raise UserError(f"{name} = {value} is not possible: it must be from {least} to {most}")
    text = str(Policy.parse(policy))
    where = Path(pool or f"{default_pool(config)}-verify")
    length = _length(budget)
    epochs = int(length.value) if length and length.unit == "e" else config.training.epochs
    asked = _asking(config, text, target, seeds, epochs)
    plan = make_plan(asked, where, trust=trust)
    per_epoch = steps_per_epoch(plan.task.rows("train"), asked.training.batch_size)
    if length and length.unit == "":  # how many epochs these are is known only now that the data are
        if length.value < per_epoch:
            raise UserError(f"a budget of {budget} steps is less than one epoch ({per_epoch:,} steps)")
        epochs = int(length.value) // per_epoch
        asked = _asking(config, text, target, seeds, epochs)
        plan = dataclasses.replace(plan, config=asked)
    warnings = misfits(Policy.parse(text), per_epoch, epochs)
    test = _backtest(where, plan.task.fingerprint, epochs, target)

    def attempt(policy: str, why: str) -> Attempt:
        specs = [
            spec.model_copy(update={"notes": MAY_GIVE_UP if give_up else {}})
            for spec in _asking(config, policy, target, seeds, epochs).specs()
        ]
        found = Attempt(policy, why, _answer(plan.of(specs, alone=True), target, **options))
        tell(found)
        return found

    attempts = [attempt(text, "the question")]
    proposals: list[Change] = []
    while not attempts[-1].yes:
        base = max(attempts, key=lambda one: one.progress(target))
        known = {one.policy for one in attempts}
        found = _changes(where, base, target, plan.task.rows("val"), per_epoch, epochs)
        proposals = [change for change in found if change.policy not in known]
        if len(attempts) > tries or not proposals:
            break
        attempts.append(attempt(proposals[0].policy, proposals[0].why))
    return Verification(
        target=target,
        epochs=epochs,
        steps_per_epoch=per_epoch,
        rows=plan.task.rows("val"),
        pool=str(where),
        attempts=tuple(attempts),
        proposals=() if attempts[-1].yes else tuple(proposals),
        warnings=tuple(warnings),
        backtest=test,
    )


def misfits(policy: Policy, steps_per_epoch: int, epochs: int) -> list[str]:
    """What of a policy lies beyond the budget: one line for each length that is longer than it."""
    total = steps_per_epoch * epochs

    def beyond(one: Policy, given: Policy) -> list[str]:
        found = []
        for (name, value), (_, written) in zip(one.parameters, given.parameters, strict=True):
            values, texts = (v if isinstance(v, tuple) else (v,) for v in (value, written))
            for item, text in zip(values, texts, strict=True):
                if isinstance(item, Policy) and isinstance(text, Policy):
                    found += beyond(item, text)
                elif isinstance(item, Length) and item.value > total:
                    found.append(f"{one.function}: {name} = {text} is longer than the budget of {epochs} epochs")
        return found

    return beyond(policy.bind(steps_per_epoch=steps_per_epoch, total_steps=total), policy)


def _length(budget: str | None) -> Length | None:
    """A budget in whole epochs or in steps."""
    if budget is None:
        return None
    length = Length.parse(budget)
    if length.unit == "%":
        raise UserError(f"budget = {budget}: a share of what? Write 20e (epochs) or 2000 (steps)")
    if length.value <= 0:
        raise UserError(f"budget = {budget} is not possible: it must be above 0")
    if length.unit == "e" and length.value != int(length.value):
        raise UserError(f"budget = {budget}: runs are evaluated after every epoch, so whole epochs are needed")
    return length


def _asking(config: Config, policy: str, target: float, seeds: int, epochs: int) -> Config:
    training = {**config.training.model_dump(), "epochs": epochs, "until": target, "stop": None}
    return Config.model_validate(
        {
            **config.model_dump(),
            "policies": [policy],
            "seeds": list(range(seeds)),
            "training": training,
            "grid": {},
            "control": False,
            "snapshots": [],
            "averages": [],
            "targets": [target],
        }
    )


def _backtest(where: Path, fingerprint: str, epochs: int, target: float) -> Backtest | None:
    if not (where / "pool.json").is_file():
        return None
    pool = Pool.open(where)
    curves = finished_curves(pool, epochs) if pool.task.data_fingerprint == fingerprint else []
    return backtest(curves, target) if curves else None


def _answer(plan: Plan, target: float, **options: Any) -> tuple[SeedResult, ...]:
    """The outcomes of a plan: from records that decide the question already, else trained now."""
    there = Pool.open(plan.pool) if (plan.pool / "pool.json").is_file() else None
    if there and there.task.data_fingerprint != plan.task.fingerprint:
        there = None
    known = [_known(there, spec, target) if there else None for spec in plan.specs]
    left = [i for i, outcome in enumerate(known) if outcome is None]
    if left:
        rest = plan.of([plan.specs[i] for i in left], alone=True)
        judge = {"name": f"{__name__}:{out_of_reach.__name__}", "target": target, "rows": plan.task.rows("val")}
        pool = train_pool(rest, judges=[Named.model_validate(judge)], **options)
        for i in left:
            member = pool.member_of(plan.specs[i])
            if member.record.status not in FINISHED:
                raise UserError(f"member {member.id} {member.status}: {member.record.reason}")
            known[i] = _outcome(pool, member, target, known=False)
    return tuple(outcome for outcome in known if outcome is not None)


def out_of_reach(spec: RunSpec, history: Sequence[Mapping[str, Any]], *, target: float, rows: int) -> str | None:
    """A judge: the curve says that the target is out of reach."""
    if spec.notes != MAY_GIVE_UP:
        return None
    curve = curve_of(spec, history, rows)
    if not is_hopeless(curve, target):
        return None
    return (
        f"given up: after {len(history)} of {spec.training.epochs} epochs validation accuracy "
        f"{curve.accuracy.max():.4f} is not expected to exceed {upper_bound(curve):.4f}, the target is {target:g}"
    )


def _known(pool: Pool, spec: RunSpec, target: float) -> SeedResult | None:
    """What the pool knows already: of this very run, of it trained to its end, or of it with another target."""
    here = pool.member_of(spec)
    if here.record_path.exists():
        candidates = [here]
    else:
        candidates = [run for run in pool.runs if _same(RunSpec.of(run.record.spec), spec)]
    for member in sorted(candidates, key=lambda one: one.id):
        if member.record.status in FINISHED:
            outcome = _outcome(pool, member, target, known=True)
            if member is here or outcome.reached or member.record.status != "stopped":
                return outcome
    return None


def _same(one: RunSpec, other: RunSpec) -> bool:
    """True when both train alike, wherever they end."""

    def bare(spec: RunSpec) -> str:
        training = spec.training.model_copy(update={"until": None, "stop": None})
        return spec.model_copy(update={"training": training, "notes": {}}).model_dump_json()

    return bare(one) == bare(other)


def _outcome(pool: Pool, member: Member, target: float, *, known: bool) -> SeedResult:
    run, history = run_of(pool, member), member.history()
    losses = [line["train_loss"] for line in history if line.get("train_loss") is not None]
    line = run.reached(target)
    epochs = int(line[0]) if line else len(history)
    best = max((accuracy for epoch, _, _, accuracy in run.curve if epoch <= epochs), default=0.0)
    return SeedResult(
        **{name: getattr(run, name) for name in ("member", "status", "reason", "seed", "policy")},
        reached={"step": line[1], "seconds": line[2], "epoch": line[0]} if line else None,
        best=best,
        se=standard_error(best, run.val_rows),
        fall=losses[0] - losses[-1] if losses else 0.0,
        epochs=epochs,
        given_up=not line and (run.reason or "").startswith("given up"),
        known=known,
    )


def _changes(
    where: Path, attempt: Attempt, target: float, rows: int, steps_per_epoch: int, epochs: int
) -> list[Change]:
    """What the middle one of an attempt's runs suggests."""
    run = sorted(attempt.runs, key=lambda one: one.best)[(len(attempt.runs) - 1) // 2]
    return changes(
        attempt.policy,
        Pool.open(where).find(run.member).history(),
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
        target=target,
        rows=rows,
        diverged=run.status == "diverged",
    )
