"""Votes of teams on any rows: the members' networks run one after the other, and only sums are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.evaluation.network import load_data, load_network, rows_by_rounding
from lrensemble.evaluation.teams import Entry, Teams, resolve, with_baselines
from lrensemble.pool import Member, Pool
from lrensemble.selection import VOTES
from lrensemble.selection.votes import NEVER, counts_of, scaled
from lrensemble.tasks import Images
from lrensemble.tasks.events import EventTask
from lrensemble.training.device import pick_devices

ROWS = 1000  # images in one pass of a network
RECORDINGS = 100  # of event cameras: a row is many frames
SAME = 0.01  # most that a probability may differ from the stored one, but for `rows_by_rounding`

# Changes raw images (B, C, H, W), float, on the device; the number of the first row is for seeds.
Change = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Networks:
    """The teams of a pool, their members' networks, and the data.

    Attributes
    ----------
    entries : the best single member (by validation accuracy) first, the average of all where it is asked for, and the
        teams, by name
    members : those that take part
    """

    pool: Pool
    data: Images | EventTask
    entries: dict[str, Entry]
    members: list[Member]
    device: torch.device
    trust: bool = False  # as in `load_network`

    def rows(self, split: str) -> Any:
        """Raw, as they are evaluated: array-like (N, ...)."""
        data = self.data
        return data.fixed(split) if isinstance(data, EventTask) else getattr(data, split).images

    def votes(
        self,
        images: Any,
        change: Change | None = None,
        each: Callable[[Member, Array], None] | None = None,
    ) -> dict[str, Array]:
        """Probabilities (N, C) of every entry on raw rows (N, ...); `each` sees those of every member."""
        totals: dict[str, Any] = dict.fromkeys(self.entries, 0.0)
        counts = {
            name: dict(zip(entry.weights, counts_of([*entry.weights.values()]), strict=True))
            for name, entry in self.entries.items()
        }
        for member in self.members:
            probabilities = self._predict(member, images, change)
            if each is not None:
                each(member, probabilities)
            for name, entry in self.entries.items():
                if weight := counts[name].get(member.id):
                    temperature = (entry.temperatures or {}).get(member.id, 1.0)
                    ballot = VOTES[entry.vote].ballot(scaled(probabilities, temperature))
                    totals[name] = totals[name] + weight * ballot.astype(np.float64)
        return {
            name: VOTES[entry.vote].outcome(totals[name] / sum(counts[name].values()))
            for name, entry in self.entries.items()
        }

    def clean_votes(self, each: Callable[[Member, Array], None] | None = None) -> dict[str, Array]:
        """`votes` on the test split, checked against the stored predictions."""
        stored = dict(zip([m.id for m in self.members], self.pool.predictions("test", self.members), strict=True))

        def check(member: Member, probabilities: Array) -> None:
            rows = np.abs(probabilities - stored[member.id]).max(1)
            other, worst = ~(rows <= SAME), float(rows.max())
            if other.sum() > rows_by_rounding(self.data, len(rows)):
                raise UserError(
                    f"member {member.id}: its network gives other predictions than the pool has (they differ by up "
                    f"to {worst:.3g}): the code of its model, or a library, has changed since it was trained"
                )
            if each is not None:
                each(member, probabilities)

        return self.votes(self.rows("test"), each=check)

    @torch.no_grad()
    def _predict(self, member: Member, images: Any, change: Change | None) -> Array:
        network = load_network(self.pool, member, trust=self.trust).to(self.device)
        masked = self.pool.choices("test") is not None
        parts = []
        size = RECORDINGS if isinstance(self.data, EventTask) else ROWS
        for start in range(0, len(images), size):
            batch = torch.from_numpy(np.asarray(images[start : start + size])).to(self.device).float()
            if change is not None:
                batch = change(batch, start)
            scores = network(batch)
            p = scores.softmax(1)
            parts.append(torch.where(scores <= NEVER, -0.0, p).cpu() if masked else p.cpu())
        return torch.cat(parts).numpy()


def networks(
    pool: Pool, teams: Teams = None, *, device: str = "auto", everyone: bool = False, trust: bool = False
) -> Networks:
    """Load the data of a pool, and find who takes part.

    Parameters
    ----------
    teams : names or teams, optional
        Default: all that were selected; a pool without teams has its two baselines.
    everyone : bool
        All complete members take part, whether a team needs them or not.
    trust : bool
        As in `load_network`.

    Raises
    ------
    UserError
        Members without weights or of foreign training, data that are not at hand or have changed, unknown teams.
    """
    members = pool.usable("test")
    chosen = resolve(pool, teams, "test")[0] if teams is not None or pool.teams else []
    average = {member.id: 1 / len(members) for member in members}
    entries, _, name = with_baselines(chosen, {pool.best_single(members).id: 1.0}, average)
    if chosen and not everyone and name not in {team.name for team in chosen}:
        del entries[name]  # it would need all networks, for one line
    needed = {member_id for entry in entries.values() for member_id in entry.weights}
    data = load_data(pool, trust=trust)
    if not isinstance(data, Images | EventTask):
        raise UserError(
            f"{pool.path}: what is changed here is images or recordings of event cameras, its data are "
            f"{pool.task.data['name']}"
        )
    return Networks(
        pool=pool,
        data=data,
        entries=entries,
        members=[member for member in members if everyone or member.id in needed],
        device=pick_devices(device)[0],
        trust=trust,
    )
