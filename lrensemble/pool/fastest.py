"""What `lrensemble fastest` found in a pool: the candidates of its decision, and how many times faster that is."""

from __future__ import annotations

import math
from typing import Any

from pydantic import field_validator

from lrensemble.policies import Policy
from lrensemble.pool.files import read_model
from lrensemble.pool.pool import Pool
from lrensemble.pool.record import Strict

FILE = "fastest.json"


class Contestant(Strict):
    """A policy and its budget in epochs."""

    policy: str
    epochs: int
    why: str = ""

    @field_validator("policy")
    @classmethod
    def _canonical(cls, text: str) -> str:
        return str(Policy.parse(text))


class Contested(Strict):
    """A candidate of the decision, and what the rule says; seconds are medians over the seeds.

    Attributes
    ----------
    epoch, seconds : to iso-accuracy; None: never
    to_target : seconds until the mean over all seeds is at the target (`Curves.time_to`); None: never
    final : mean over seeds and last evaluations
    curve : mean validation accuracy over the seeds, by epoch
    """

    policy: str
    epochs: int
    why: str
    epoch: int | None
    seconds: float | None
    to_target: float | None
    final: float | None
    difference: float | None
    bound: float | None
    p: float
    holds: bool
    curve: tuple[float | None, ...]


class Confirmation(Strict):
    """The winner with fresh seeds after the epoch that was chosen before, and the one look at the test split.

    Numbers are None where a run with a fresh seed ended early.
    """

    epoch: int
    seconds: float | None
    baseline_seconds: float | None
    difference: float | None
    bound: float | None
    p: float
    holds: bool
    test: dict[str, float] | None  # accuracies, their difference in points of accuracy, its 95 % bound, rows

    @property
    def saved(self) -> float:
        """Seconds saved over the baseline's whole budget; 0 where it is not as accurate, or no faster."""
        if not self.holds or self.seconds is None or self.baseline_seconds is None:
            return 0.0
        return max(0.0, self.baseline_seconds - self.seconds)


class Fastest(Strict):
    """``fastest.json``. Accuracies are shares of validation rows but for `Confirmation.test`.

    Attributes
    ----------
    clock : ``cpu_seconds`` (what training steps took of all threads) or ``seconds``
    rows : the baseline first, then the baseline without its decay, the best constant LR, and the finalists
    winner : number in `rows`; None: the baseline is recommended
    killed : constant LRs whose run died, or learnt nothing
    search_seconds : of all runs, the repetitions included
    """

    baseline: str
    epochs: int
    seeds: tuple[int, ...]
    fresh: tuple[int, ...]
    target: float
    val_rows: int
    clock: str
    killed: tuple[float, ...]
    largest: float
    tried: int
    rows: tuple[Contested, ...]
    winner: int | None
    confirmation: Confirmation | None
    search_seconds: float
    created: str

    @property
    def recommended(self) -> Contested:
        """The winner where fresh seeds confirm it, else the baseline."""
        confirmed = self.winner is not None and self.confirmation is not None and self.confirmation.saved > 0
        return self.rows[self.winner if confirmed and self.winner is not None else 0]

    @property
    def speed_ups(self) -> dict[str, float | None]:
        """How many times faster the recommended policy is, by what it is compared with; None where nothing is known.

        ``full baseline``: the baseline's whole budget over the time to iso-accuracy (with fresh seeds), the paper's
        kind. ``same target``: the times until the means over the seeds are at the target. ``without decay`` and ``best
        constant``: their times to iso-accuracy.
        """
        row, (base, plain, constant) = self.recommended, self.rows[:3]
        if row is base or self.confirmation is None:
            return dict.fromkeys(("full baseline", "same target", "without decay", "best constant"), 1.0)
        return {
            "full baseline": _ratio(self.confirmation.baseline_seconds, self.confirmation.seconds),
            "same target": _ratio(base.to_target, row.to_target),
            "without decay": _ratio(plain.seconds, row.seconds),
            "best constant": _ratio(constant.seconds, row.seconds),
        }

    @property
    def repaid_after(self) -> int | None:
        """Trainings after which the search has cost less than it saved; None: never."""
        if self.recommended is self.rows[0] or self.confirmation is None:
            return None
        return math.ceil(self.search_seconds / self.confirmation.saved)

    def to_dict(self) -> dict[str, Any]:
        more = {"recommended": self.recommended.model_dump(), "speed_ups": self.speed_ups}
        return {**self.model_dump(mode="json"), **more, "repaid_after": self.repaid_after}


def _ratio(slower: float | None, faster: float | None) -> float | None:
    return slower / faster if slower is not None and faster else None


def read_fastest(pool: Pool) -> Fastest | None:
    """What was found in a pool; None: nothing was asked."""
    path = pool.path / FILE
    return read_model(Fastest, path, "delete it, and lrensemble fastest makes it again") if path.exists() else None
