"""The best of a stream of scored teams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError, did_you_mean


@dataclass(frozen=True)
class TeamScores:
    """Some teams and their scores.

    Attributes
    ----------
    masks : (T,) uint32 or uint64
        Bit m says whether member m belongs to the team.
    scores : dict of (T,) float64
    """

    masks: Array
    scores: dict[str, Array]

    @classmethod
    def joined(cls, parts: Sequence[TeamScores]) -> TeamScores:
        """All teams of the parts; the scores are those of the first."""
        scores = {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores}
        return cls(np.concatenate([part.masks for part in parts]), scores)

    def only(self, index: Array) -> TeamScores:
        """Some of the teams, by a mask or their numbers."""
        return TeamScores(self.masks[index], {name: values[index] for name, values in self.scores.items()})


def top_teams(chunks: Iterable[TeamScores], by: str, q: int = 10, *, largest: bool | None = None) -> TeamScores:
    """Return the `q` best teams of a stream, best first; ties go to the smaller team, then to the lower mask.

    `largest` tells the direction; by default NLL is better when smaller and every other score when larger. Teams whose
    score is NaN come last. Only `q` teams are kept at any time.
    """
    largest = by != "nll" if largest is None else largest
    best: TeamScores | None = None
    for found in chunks:
        if by not in found.scores:
            raise UserError(f"teams were not scored by {by!r}: {did_you_mean(by, found.scores)}")
        best = _best(found if best is None else TeamScores.joined([best, found]), by, q, largest)
    if best is None:
        raise UserError("there are no teams to choose from")
    return best


def _best(teams: TeamScores, by: str, q: int, largest: bool) -> TeamScores:
    key = np.nan_to_num(-teams.scores[by] if largest else teams.scores[by], nan=np.inf)
    candidates = np.arange(len(key))
    if len(key) > q:  # a sort of all teams would take longer than scoring them
        candidates = np.flatnonzero(key <= np.partition(key, q - 1)[q - 1])
    sizes = np.bitwise_count(teams.masks[candidates])
    order = candidates[np.lexsort((teams.masks[candidates], sizes, key[candidates]))[:q]]
    return teams.only(order)
