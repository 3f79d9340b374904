"""What `fastest` tries: constant LRs, families of policies, their settings and budgets, with one seed each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lrensemble.choices import guessing
from lrensemble.errors import UserError
from lrensemble.policies import Policy
from lrensemble.pool import Member, MemberSpec, Named, Pool, RunSpec
from lrensemble.pool.fastest import Contestant
from lrensemble.pool.files import read_model, write_sealed
from lrensemble.pool.record import FINISHED, Strict
from lrensemble.recommend.iso_accuracy import WINDOW, Curves
from lrensemble.training import Plan, train_pool
from lrensemble.training.range_test import range_test

PAPER = "STEP(k0=0.001, gamma=0.5, l=10%)"  # FastSpiker's baseline
SPIKING_LRS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SHORT = 6  # epochs of a run that asks whether an LR kills
CONSTANTS = 5
FLOOR = 0.01  # of the peak, of waves and restarts
FAMILIES_KEPT = 3
SCREEN = 0.2  # of the baseline's epochs
SETTINGS_KEPT = 3
BUDGETS = (0.1, 0.12, 0.14, 0.17, 0.2, 0.24, 0.28, 0.4, 1.0)
WARMED = "ONECYCLE"
ABOVE = (2, 3)  # times the largest constant LR that lives: a long warm-up stands more (Smith & Topin 2019)
# Settings of every family, the one to begin with first; lengths are shares of the run's own budget.
FAMILIES: dict[str, tuple[str, ...]] = {
    "STEP": tuple(
        f"STEP(k0={{k0}}, gamma={g}, l={length})" for g, length in ((0.5, "20%"), (0.5, "10%"), (0.1, "50%"))
    ),
    "EXP": tuple(f"EXP(k0={{k0}}, gamma={gamma}, per=1%)" for gamma in (0.98, 0.99, 0.96)),
    "COSRSW": tuple(f"COSRSW(k0={{k0}}, k1={{k1}}, l={length})" for length in ("100%", "50%", "25%")),
    "RSW": tuple(f"RSW(k0={{k0}}, k1={{k1}}, l={length})" for length in ("20%", "50%", "100%")),
    "TRI": tuple(f"TRI(k0={{k0}}, k1={{k1}}, l={length})" for length in ("12.5%", "25%", "50%")),
    "TRI2": tuple(f"TRI2(k0={{k0}}, k1={{k1}}, l={length})" for length in ("12.5%", "25%", "50%")),
    # What comes after l is trained at the lowest LR: evaluations that the rule looks back on are quiet there.
    WARMED: tuple(f"ONECYCLE(k0={{k0}}, {rest})" for rest in ("up=0.5, l=85%", "l=85%", "up=0.5")),
}


class Trainer:
    """Trains candidates as members of the plan's pool, and remembers which."""

    def __init__(self, plan: Plan, options: Mapping[str, Any]) -> None:
        base = plan.specs[0]
        training = base.training.model_copy(update={"until": None, "stop": None})
        self.base = base.model_copy(update={"training": training, "notes": {}})
        self.plan, self.options, self.members = plan, options, dict[str, Member]()
        self.clock = ""

    def spec(self, candidate: Contestant, seed: int) -> RunSpec:
        training = self.base.training.model_copy(update={"epochs": candidate.epochs})
        return self.base.model_copy(update={"policy": candidate.policy, "seed": seed, "training": training})

    def train(
        self, candidates: Sequence[Contestant], seeds: Sequence[int], snapshots: Sequence[int] = ()
    ) -> list[list[Member]]:
        """Members by candidate and seed, which leave snapshots after these epochs."""
        specs = [[self.spec(candidate, seed) for seed in seeds] for candidate in candidates]
        update = {"snapshots": tuple(f"{epoch}e" for epoch in snapshots), "averages": (), "control": False}
        plan = dataclasses.replace(self.plan, config=self.plan.config.model_copy(update=update))
        plan = dataclasses.replace(plan.of(spec for group in specs for spec in group), alone=True)
        pool = train_pool(plan, control=False, **self.options)
        members = [[pool.member_of(spec) for spec in group] for group in specs]
        for member in (member for group in members for member in group):
            if member.record.status not in FINISHED:
                raise UserError(f"member {member.id} {member.record.status}: {member.record.reason}")
            self.members[member.id] = member
        self.clock = self.clock or _clock(pool)
        return members

    def snapshot(self, member: Member, epoch: int) -> Member:
        """What a member was after an epoch."""
        spec = RunSpec.of(member.record.spec)
        if epoch == spec.training.epochs:
            return member
        derived = Named.model_validate({"name": "snapshot", "epoch": epoch})
        return Pool.open(self.plan.pool).member_of(MemberSpec(**{**spec.model_dump(), "derived": derived}))

    def curves(self, members: Sequence[Member], epochs: int) -> Curves:
        found = np.full((2, len(members), epochs), np.nan)
        for i, member in enumerate(members):
            for j, line in enumerate(member.history()[:epochs]):
                accuracy = line.get("val_accuracy")
                found[:, i, j] = math.nan if accuracy is None else accuracy, line[self.clock]
        return Curves(*found)

    @property
    def seconds(self) -> float:
        return float(sum(member.record.costs.get(self.clock, 0.0) for member in self.members.values()))


def _clock(pool: Pool) -> str:
    """One for all: on a shared machine the processor's own seconds say what a run took; a GPU has no such clock.

    Runs of older versions, which others than the first may come from, have not kept them.
    """
    runs = pool.runs
    kept = all("cpu_seconds" in entry for member in runs for entry in (member.record.costs, *member.history()))
    return "cpu_seconds" if kept and all(m.record.environment.get("device") == "cpu" for m in runs) else "seconds"


def largest_lr(
    trainer: Trainer, lrs: Sequence[float] | None, plan: Plan, tell: Callable[[str], None]
) -> tuple[float, list[float]]:
    """The largest constant LR that learns, and those that kill."""
    if lrs is None:
        test = _range(plan, trainer)
        lrs = [_rounded(lr) for lr in np.geomspace(test[0], 3 * test[1], 6)]
    if not all(math.isfinite(lr) and lr > 0 for lr in lrs):
        raise UserError(f"LRs {', '.join(f'{lr:g}' for lr in lrs)} are not possible: they must be above 0")
    lrs = sorted(set(lrs))
    epochs = min(SHORT, trainer.base.training.epochs)
    runs = trainer.train([Contestant(policy=f"FIX(k0={lr:g})", epochs=epochs) for lr in lrs], [0])
    accuracy = [g[0].record.val.get("accuracy") if g[0].record.status == "complete" else None for g in runs]
    alive = {lr: a for lr, a in zip(lrs, accuracy, strict=True) if a is not None}
    if not alive:
        reason = runs[0][0].record.reason
        raise UserError(f"every FIX run died at >= {lrs[0]:g} ({reason}): try smaller LRs, --lrs {lrs[0] / 3:.1g} ...")
    # Alive and at chance is dead too, but where none has learnt yet.
    chance, rows = guessing(plan.task.num_classes, plan.task.choices("val")), plan.task.rows("val")
    learnt = [lr for lr, a in alive.items() if a > chance + 2 * math.sqrt(chance * (1 - chance) / rows)]
    largest = max(learnt or alive)
    killed = [lr for lr in lrs if lr > largest or lr not in alive]
    tell(
        f"   largest LR that learns: {largest:g}"
        + (f"; killed by {', '.join(f'{k:g}' for k in killed)}" if killed else "")
    )
    return largest, killed


class TestedRange(Strict):
    """``fastest-range.json``: kept, because another number of threads would find it a little elsewhere."""

    low: float
    high: float


def _range(plan: Plan, trainer: Trainer) -> tuple[float, float]:
    path = plan.pool / "fastest-range.json"
    if not path.exists():
        test = range_test(
            trainer.base, plan.task, engine=plan.config.engine, device=trainer.options.get("devices") or "auto"
        )
        write_sealed(path, {"low": test.low, "high": test.high})
    found = read_model(TestedRange, path, "delete it, and the range test is done again")
    return found.low, found.high


def _rounded(lr: float) -> float:
    return float(f"{lr:.2g}")


class Trials:
    """Runs with one seed, and their scores: the mean of the last evaluations, 0 where a run ended early."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.scores: dict[Contestant, float] = {}
        self.curves: dict[Contestant, Curves] = {}

    def run(self, candidates: Iterable[Contestant]) -> list[Contestant]:
        """Train, and return them from the best to the worst."""
        asked = list(dict.fromkeys(candidates))
        for candidate, [member] in zip(asked, self.trainer.train(asked, [0]), strict=True):
            curves = self.trainer.curves([member], candidate.epochs)
            self.curves[candidate] = curves
            score = float(curves.mean_before(candidate.epochs)[0])
            self.scores[candidate] = score if math.isfinite(score) else 0.0
        return sorted(asked, key=lambda candidate: -self.scores[candidate])

    @property
    def best_constant(self) -> str:
        return max((c for c in self.scores if c.policy.startswith("FIX(")), key=self.scores.__getitem__).policy

    def steady(self, wanted: float) -> dict[Contestant, float]:
        """Seconds until the mean of the last evaluations is what is wanted, of those that get there."""
        found = {}
        for candidate, curves in self.curves.items():
            looks = range(WINDOW, candidate.epochs + 1)
            epoch = next((e for e in looks if curves.mean_before(e)[0] >= wanted), None)
            if epoch and not candidate.policy.startswith("FIX("):
                found[candidate] = curves.time_of(epoch)
        return found

    def finalists(self, wanted: float, most: int) -> list[Contestant]:
        """Of every budget the run that is first as accurate as is wanted; where none is, those with the best scores."""
        steady = self.steady(wanted)
        ranked = sorted(steady, key=steady.__getitem__)
        budgets = dict[int, Contestant]()
        for candidate in ranked:
            budgets.setdefault(candidate.epochs, candidate)
        order = [*budgets.values(), *(c for c in ranked if c not in budgets.values())]
        rest = sorted(self.scores, key=lambda c: -self.scores[c])
        order += [c for c in rest if c not in order and not c.policy.startswith("FIX(")]
        return [c.model_copy(update={"why": "finalist"}) for c in order[:most]]


def search_policies(
    trials: Trials, largest: float, epochs: int, wanted: float, finalists: int, tell: Callable[[str], None]
) -> None:
    """Steps 1 and 2."""
    short = max(WINDOW, round(SCREEN * epochs))
    values = [_rounded(k0) for k0 in np.geomspace(largest / 10, largest, CONSTANTS)]
    tell(f"1. constant LRs {values[0]:g} to {values[-1]:g} and {len(FAMILIES)} families, {short} epochs each")
    constants = trials.run(Contestant(policy=f"FIX(k0={k0:g})", epochs=short) for k0 in values)
    best = [Policy.parse(candidate.policy)["k0"] for candidate in constants[:2]]
    origin: dict[str, tuple[str, float]] = {}
    for name, settings in FAMILIES.items():
        for k0 in [*best, *(_rounded(largest * times) for times in ABOVE if name == WARMED)]:
            origin[_text(settings[0], k0)] = name, k0
    ranked = trials.run(Contestant(policy=text, epochs=short) for text in origin)
    kept = list(dict(origin[c.policy] for c in reversed(ranked)).items())  # of every family its better LR
    kept.sort(key=lambda pair: next(i for i, c in enumerate(ranked) if origin[c.policy] == pair))
    kept = kept[:FAMILIES_KEPT]
    tell(f"2. settings and budgets of {', '.join(f'{name} (k0={k0:g})' for name, k0 in kept)}")
    policies = [_text(setting, k0) for name, k0 in kept for setting in FAMILIES[name]]
    # All at one budget: which is best at a much shorter one says little of where the target is reached.
    ranked = trials.run(Contestant(policy=policy, epochs=short) for policy in policies)[:SETTINGS_KEPT]
    for budget in sorted({max(WINDOW, round(share * epochs)) for share in BUDGETS}):
        trials.run(candidate.model_copy(update={"epochs": budget}) for candidate in ranked)
        if len({candidate.epochs for candidate in trials.steady(wanted) if candidate.epochs <= budget}) >= finalists:
            break  # a longer budget cannot be faster


def _text(template: str, k0: float) -> str:
    return str(Policy.parse(template.format(k0=f"{k0:g}", k1=f"{FLOOR * k0:g}")))
