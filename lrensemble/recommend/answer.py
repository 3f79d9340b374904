"""What verification found: outcomes of single seeds, attempts, the answer."""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass, replace
from typing import Any

from lrensemble.metrics import standard_error
from lrensemble.recommend.change import Change
from lrensemble.recommend.curves import Backtest
from lrensemble.recommend.runs import FinishedRun


@dataclass(frozen=True)
class SeedResult:
    """What one seed showed.

    Attributes
    ----------
    run : of the member that showed it
    fall : of the training loss from the first epoch to the last: what was learnt, where accuracy shows nothing yet
    epochs : trained, until the target was reached
    known : answered by a record that was there before
    """

    run: FinishedRun
    target: float
    fall: float
    epochs: int
    known: bool

    @property
    def reached(self) -> dict[str, float] | None:
        """Step, seconds and epoch of the first evaluation that reached the target; None when none did."""
        line = self.run.reached(self.target)
        return {"step": line[1], "seconds": line[2], "epoch": line[0]} if line else None

    @property
    def best(self) -> float:
        """Highest validation accuracy while the question was open."""
        return max((line[3] for line in self.run.curve if line[0] <= self.epochs), default=0.0)

    @property
    def se(self) -> float:
        """Binomial standard error of `best`."""
        return standard_error(self.best, self.run.val_rows)

    @property
    def given_up(self) -> bool:
        """Stopped because the target was out of reach, so that "no" is a forecast."""
        return not self.reached and (self.run.reason or "").startswith("given up")

    def to_dict(self) -> dict[str, Any]:
        of_run = ("member", "status", "reason", "seed", "policy")
        mine = ("reached", "best", "se", "fall", "epochs", "given_up", "known")
        return {name: getattr(self.run, name) for name in of_run} | {name: getattr(self, name) for name in mine}


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
                "policy": attempt.policy,
                "why": attempt.why,
                "runs": [outcome.to_dict() for outcome in attempt.runs],
                "yes": attempt.yes,
                "share": attempt.share,
                "median": {key: attempt.median(key) for key in ("step", "seconds")},
            }
            for attempt in self.attempts
        ]
        return {**dataclasses.asdict(replace(self, attempts=())), "yes": self.yes, "attempts": attempts}
