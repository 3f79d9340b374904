"""How long predictions take: `export` measures it and leaves it in the pool, the page of a report shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from lrensemble.errors import UserError
from lrensemble.pool.files import read_model, write_sealed
from lrensemble.pool.team import Team

if TYPE_CHECKING:
    from lrensemble.pool.pool import Pool

FOLDER = "timings"


class Timing(BaseModel):
    """Milliseconds per batch, beside the best single member exported in the same way.

    Attributes
    ----------
    device : the processor, and the threads used
    team_ms, single_ms : of the fastest call: whatever else a machine does only makes it slower
    team_spread, single_spread : 10 % and 90 % of all calls; None in cards of before
    calls : of each
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: str
    device: str
    batch: int
    team_ms: float
    single_ms: float
    team_spread: tuple[float, float] | None = None
    single_spread: tuple[float, float] | None = None
    calls: int | None = None

    def text(self, who: Literal["team", "single"]) -> str:
        """``1.2 ms (1.3 to 2)``."""
        fastest, spread = getattr(self, f"{who}_ms"), getattr(self, f"{who}_spread")
        return f"{fastest:.3g} ms" + (f" ({spread[0]:.3g} to {spread[1]:.3g})" if spread else "")


class Timings(BaseModel):
    """``timings/<team>.json``; `members` with weights and `single` say whose they are."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    members: Mapping[str, float]
    single: str
    timings: tuple[Timing, ...]


def write_timings(pool: Pool, team: Team, timings: Sequence[Timing]) -> None:
    """Keep what was measured of a team and of the best single member."""
    found = Timings(members=team.members, single=pool.best_single().id, timings=tuple(timings))
    write_sealed(pool.file_of_team(FOLDER, team.name), found.model_dump(mode="json"))


def read_timings(pool: Pool, team: Team) -> tuple[Timing, ...]:
    """What was measured of this very team; nothing where it has another best single member beside it by now."""
    try:
        found = read_model(Timings, pool.file_of_team(FOLDER, team.name))
    except UserError:  # of no team, or damaged: the next export measures again
        return ()
    return found.timings if (found.members, found.single) == (team.members, pool.best_single().id) else ()
