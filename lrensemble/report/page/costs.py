"""What the pool cost to train, in seconds and joules, and what the team costs to use beside one model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lrensemble.pool import Member, Pool, Team
from lrensemble.pool.costs import MEASURES, OPERATIONS
from lrensemble.pool.energy import carbon_intensity, energy_of
from lrensemble.pool.timings import Timing, read_timings


@dataclass(frozen=True)
class Use:
    """What one prediction takes; None where some member's is not known."""

    measure: str
    unit: str
    single: float | None
    team: float | None

    @property
    def ratio(self) -> float | None:
        return self.team / self.single if self.single and self.team is not None else None


@dataclass(frozen=True)
class Trained:
    """Sums over runs; None where nothing is known.

    Attributes
    ----------
    joules, grams : energy, and CO2 equivalents by the world's mean
    sources : what the energy is from
    """

    seconds: float | None
    joules: float | None
    grams: float | None
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Costs:
    """Seconds are sums over the members (not the time on the clock where several trained at once).

    Attributes
    ----------
    pool, control, team, single : Trained
        The pool's includes what diverged or failed.
    timed, runs : int
        Of how many runs of the pool the seconds are known, and how many there are.
    use : list of Use
        FLOPs and parameters; of spiking networks their operations.
    timings : what `export` measured of the team and of the best single member
    """

    pool: Trained
    control: Trained
    team: Trained
    single: Trained
    timed: int
    runs: int
    use: list[Use]
    timings: tuple[Timing, ...]


def costs_of(pool: Pool, team: Team | None, best: Member) -> Costs:
    """Sum what the records say."""
    # Snapshots and averages came of a run whose seconds count already.
    runs = [m for m in pool.members if m.status != "damaged" and m.record.parent is None]
    chosen = list(pool.members_of(team).values()) if team else []
    parents = {i for m in chosen for i in m.record.runs}
    control = [m for m in pool.control.members if m.status != "damaged"] if pool.control else []
    return Costs(
        pool=_trained(runs),
        control=_trained(control),
        team=_trained(m for m in runs if m.id in parents),
        single=_trained(m for m in runs if m.id in best.record.runs),
        timed=sum("seconds" in m.record.costs for m in runs),
        runs=len(runs),
        use=[
            Use(key, unit, _sum(key, [best]), _sum(key, chosen))
            for key, unit in (MEASURES | OPERATIONS).items()
            if key in MEASURES or key in best.record.costs
        ],
        timings=read_timings(pool, team) if team else (),
    )


def _trained(members: Iterable[Member]) -> Trained:
    records = [member.record for member in members]
    used = [energy_of(record, grams_per_kwh=carbon_intensity()) for record in records]

    def total(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(sum(known)) if known else None

    return Trained(
        seconds=total(record.costs.get("seconds") for record in records),
        joules=total(one.joules for one in used),
        grams=total(one.grams for one in used),
        sources=tuple(dict.fromkeys(one.source for one in used if one.joules is not None)),
    )


def _sum(key: str, members: list[Member]) -> float | None:
    values = [m.record.costs.get(key) for m in members]
    known = [value for value in values if value is not None]
    return float(sum(known)) if known and len(known) == len(values) else None
