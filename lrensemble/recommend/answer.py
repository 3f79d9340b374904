"""What verification found: outcomes of single seeds, attempts, the answer."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, replace
from typing import Any

from lrensemble.recommend.change import Change
from lrensemble.recommend.curves import Backtest


@dataclass(frozen=True)
class SeedResult:
    """What one seed showed.

    Attributes
    ----------
    reached : step, seconds and epoch of the first evaluation that reached the target; None when none did
    best : highest validation accuracy while the question was open
    se : binomial standard error of `best`
    fall : of the training loss from the first epoch to the last: what was learnt, where accuracy shows nothing yet
    epochs : trained, until the target was reached
    given_up : stopped because the target was out of reach, so that "no" is a forecast
    known : answered by a record that was there before
    """

    member: str
    status: str
    reason: str | None
    seed: int
    policy: str
    reached: dict[str, float] | None
    best: float
    se: float
    fall: float
    epochs: int
    given_up: bool
    known: bool


@dataclass(frozen=True)
class Attempt:
    """One policy: its runs, and why it was tried."""

    policy: str
    why: str
    runs: tuple[SeedResult, ...]

    @property
    def share(self) -> float:
        """Of the seeds that reached the target."""
        return sum(run.reached is not None for run in self.runs) / len(self.runs)

    @property
    def yes(self) -> bool:
        """More than half of the seeds reached it, so that the median run does."""
        return self.share > 0.5

    def progress(self, target: float) -> tuple[float, float]:
        """For comparing attempts that missed: the median best accuracy; the loss where that is near chance."""
        best = statistics.median(run.best for run in self.runs)
        return best if best >= target / 2 else 0.0, statistics.median(run.fall for run in self.runs)

    def median(self, key: str) -> float | None:
        """Median of ``step`` or ``seconds`` to the target, over all seeds; None when half of them never got there."""
        values = sorted(run.reached[key] if run.reached else math.inf for run in self.runs)
        middle = statistics.median(values)
        return middle if math.isfinite(middle) else None


@dataclass(frozen=True)
class Verification:
    """The answer and how it was found.

    Attributes
    ----------
    attempts : the policy, then the changes that were tried
    proposals : changes that were not tried (on no)
    warnings : what of the policy does not fit the budget
    backtest : the rule that gives up, on the finished runs of this pool; None when there are none of this budget
    """

    target: float
    epochs: int
    steps_per_epoch: int
    rows: int
    pool: str
    attempts: tuple[Attempt, ...]
    proposals: tuple[Change, ...]
    warnings: tuple[str, ...]
    backtest: Backtest | None

    @property
    def yes(self) -> bool:
        return any(attempt.yes for attempt in self.attempts)

    def to_dict(self) -> dict[str, Any]:
        attempts = [
            {
                **asdict(attempt),
                "yes": attempt.yes,
                "share": attempt.share,
                "median": {key: attempt.median(key) for key in ("step", "seconds")},
            }
            for attempt in self.attempts
        ]
        return {**asdict(replace(self, attempts=())), "yes": self.yes, "attempts": attempts}
