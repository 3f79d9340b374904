"""The selectors of teams, run again on other members of the same task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.pool import Member, Pool, Team
from lrensemble.pool.costs import inference_costs
from lrensemble.pool.select import best_members
from lrensemble.selection import MEMORY, Selector, make_selector


class Refitted(NamedTuple):
    """What a selector made of some members."""

    rows: Array  # (N, C) of the test rows
    members: int  # that it chose


@dataclass(frozen=True)
class Selectors:
    """By the name of the team: its selector, the unit of the costs that it knew, and how many of the best it saw."""

    pool: Pool
    known: Mapping[str, tuple[Selector, str, int | None]]
    tried: Mapping[str, int]  # teams that it scored to choose its own
    left_out: dict[str, str] = field(default_factory=dict)  # team -> why it cannot be selected again

    @classmethod
    def of(cls, pool: Pool, teams: Sequence[Team], average: str) -> Selectors:
        """Of these teams, and of the average of all members where it has a name."""
        usable = pool.usable("val")
        known: dict[str, tuple[Selector, str, int | None]] = {}
        left_out = {}
        for team in teams:
            given = team.parameters.get("best")  # of a file: of another kind it chose none
            best = given if isinstance(given, int) and given > 0 else None
            candidates = sorted(member.id for member in best_members(usable, best))
            if team.candidates != candidates:
                left_out[team.name] = (
                    f"the best {best} members are others now: select again to compare it with other runs"
                    if best
                    else f"selected from {len(team.candidates)} members, the pool has {len(candidates)} now: select "
                    "again to compare it with other runs"
                )
                continue
            try:
                known[team.name] = make_selector(team.selector, **team.parameters), team.cost_unit, best
            except UserError as error:  # of another version, or not installed here
                left_out[team.name] = str(error)
        if average:
            known[average] = make_selector("all"), "", None
        tried = {team.name: team.teams_tried for team in teams}
        return cls(pool, known, tried, left_out)

    def on(self, members: Sequence[Member], names: Sequence[str] | None = None) -> Iterator[tuple[str, Refitted | str]]:
        """Name and vote of every selector (or of those with `names`) on these members; or why it has none.

        Each with its own vote, temperatures and costs, as for its team.
        """
        labels = self.pool.labels("val")
        everyone = tuple(self.pool.predictions(split, members).within(MEMORY) for split in ("val", "test"))
        for name in self.known if names is None else names:
            selector, unit, best = self.known[name]
            seen = best_members(members, best)
            val, test = (self.pool.predictions(split, seen) for split in ("val", "test")) if best else everyone
            try:
                costs, _ = inference_costs(seen, unit or None)
                rows = selector.fit(val, labels, costs=costs).predict_proba(test)
            except UserError as error:  # another number of members: too few for a size, too many for brute force
                yield name, str(error)
            else:
                yield name, Refitted(rows, len(selector.members_))
