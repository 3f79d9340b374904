"""What the pool cost to train, and what the team costs to use beside one model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lrensemble.pool import Member, Pool, Team
from lrensemble.pool.costs import MEASURES


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
class Costs:
    """Seconds are sums over the members (not the time on the clock where several trained at once).

    Attributes
    ----------
    pool_seconds, control_seconds, team_seconds, single_seconds : float or None
        Training; None where nothing is known. The pool's includes what diverged or failed.
    timed, runs : int
        Of how many runs of the pool the seconds are known, and how many there are.
    use : list of Use
        FLOPs and parameters.
    """

    pool_seconds: float | None
    control_seconds: float | None
    team_seconds: float | None
    single_seconds: float | None
    timed: int
    runs: int
    use: list[Use]


def costs_of(pool: Pool, team: Team | None, best: Member) -> Costs:
    """Sum what the records say."""
    # Snapshots and averages came of a run whose seconds count already.
    runs = [m for m in pool.members if m.status != "damaged" and m.record.parent is None]
    chosen = list(pool.members_of(team).values()) if team else []
    parents = {i for m in chosen for i in m.record.runs}
    control = [m for m in pool.control.members if m.status != "damaged"] if pool.control else []
    return Costs(
        pool_seconds=_seconds(runs),
        control_seconds=_seconds(control),
        team_seconds=_seconds(m for m in runs if m.id in parents),
        single_seconds=_seconds(m for m in runs if m.id in best.record.runs),
        timed=sum("seconds" in m.record.costs for m in runs),
        runs=len(runs),
        use=[Use(key, unit, _sum(key, [best]), _sum(key, chosen)) for key, unit in MEASURES.items()],
    )


def _seconds(members: Iterable[Member]) -> float | None:
    known = [m.record.costs["seconds"] for m in members if "seconds" in m.record.costs]
    return float(sum(known)) if known else None


def _sum(key: str, members: list[Member]) -> float | None:
    values = [m.record.costs.get(key) for m in members]
    known = [value for value in values if value is not None]
    return float(sum(known)) if known and len(known) == len(values) else None
