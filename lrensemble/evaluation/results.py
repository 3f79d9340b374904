"""What an evaluation finds: plain values, flat enough for a table and a JSON file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lrensemble.notebook import block, frame, line, table

if TYPE_CHECKING:
    import pandas

LEVEL = 0.95
# What a team is compared with, and what each answers; in the order of the tables.
BEST_SINGLE = "best single"  # is an ensemble worth it? The member with the highest validation accuracy
ALL_AVERAGE = "all-average"  # is leaving members out worth it? All members with equal weight
TOP_K = "top-k"  # is the selector worth it? As many members, the best on validation one by one
RANDOM = "random"  # does it matter who is in the team? The mean over random teams of as many members
SEEDS_ONLY = "seeds-only"  # is it the LR policies? The same selector on a pool that varies the seed alone
# Was it a good use of the budget? The same selector on as many trainings, spent in another way:
HALF = "half and half"  # half of the runs, and seeds of the best of them
DEFAULT_SEEDS = "default seeds"  # seeds of a policy that was fixed before training
BASELINES = (BEST_SINGLE, ALL_AVERAGE, TOP_K, RANDOM, SEEDS_ONLY, HALF, DEFAULT_SEEDS)
TOGETHER = "seeds-only, at equal bills"  # the selector on pool and control together, against the control


@dataclass(frozen=True)
class Gain:
    """A paired difference on the test rows with its 95 % interval; positive = better."""

    value: float
    low: float
    high: float
    p_value: float | None = None  # McNemar's test, mid-p: of accuracies of two teams; None for other gains

    @property
    def direction(self) -> int:
        """1 or -1 when it is shown: the interval excludes zero on that side, and the test agrees; else 0."""
        if self.p_value is not None and self.p_value >= 1 - LEVEL:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def words(self, digits: int = 2) -> tuple[str, str, str]:
        """Value and interval with their signs; never "-0.00"."""
        value, low, high = (f"{round(x, digits) + 0.0:+.{digits}f}" for x in (self.value, self.low, self.high))
        return value, low, high


@dataclass(frozen=True)
class Bill:
    """All that was trained to be able to name a row: the tuning that found it included, and what diverged."""

    trainings: int
    epochs: int  # of their budgets: a run that ended early counts whole, as it would in the next plan
    seconds: float | None  # of training, on whatever trained it; None where a run does not say

    def __add__(self, other: Bill) -> Bill:
        seconds = None if self.seconds is None or other.seconds is None else self.seconds + other.seconds
        return Bill(self.trainings + other.trainings, self.epochs + other.epochs, seconds)

    def equals(self, other: Bill) -> bool:
        """Whether the same was spent; seconds are the machine's."""
        return (self.trainings, self.epochs) == (other.trainings, other.epochs)

    @property
    def time(self) -> str:
        """Of all trainings one after the other, as h:mm:ss; "-" where it is not known."""
        return "-" if self.seconds is None else str(timedelta(seconds=round(self.seconds)))

    def __str__(self) -> str:
        """``14 trainings (420 epochs in all, 0:12:31)``."""
        time = "" if self.seconds is None else f", {self.time}"
        return f"{self.trainings:,} trainings ({self.epochs:,} epochs in all{time})"


@dataclass(frozen=True)
class OverRuns:
    """How far the gains over the best single member hang on which runs there are, on these very test rows.

    Standard errors by the delete-half jackknife; apart from the intervals, which are over the test rows.
    """

    halves: int  # of the pool
    accuracy: float  # points
    nll: float | None  # nats


@dataclass(frozen=True)
class Score:
    """A team, or a baseline, on the test split. Everything is a share (0.01 = 1 %) or in nats unless it says points.

    Of its members alone (unweighted, as they are): `mean_member_accuracy`, `best_member_accuracy` (on these rows, so
    known in hindsight only), `oracle_accuracy` (at least one is right: no vote can be better), `disagreement` (mean
    over pairs of the share of rows with different predictions; None for one member).
    """

    name: str
    members: int
    accuracy: float
    accuracy_interval: tuple[float, float]  # 95 %, Wilson
    nll: float | None  # this, Brier score, ECEs, AC, CV, CVAC: None where members that give labels take part
    brier: float | None
    ece: float | None  # 15 bins of equal width
    adaptive_ece: float | None  # 15 bins of equal mass
    top5_accuracy: float | None  # None with 5 classes or fewer, and of labels
    ac: float | None  # mean confidence in the rows that are right (Wu et al. 2019); None when none is
    cv: float | None  # standard deviation of the same
    cvac: float | None  # standard deviation over classes of their mean confidence in what is right
    mean_member_accuracy: float
    best_member_accuracy: float
    oracle_accuracy: float
    disagreement: float | None
    gain_over_mean_member: float  # points
    gain_over_best_member: float  # points
    accuracy_gain: Gain  # over the best single member, paired, in points (1 point = 0.01 of accuracy)
    nll_gain: Gain | None  # over the best single member, paired, in nats; positive = better
    validation: dict[str, float]  # what it scored on the rows that it was chosen on
    metrics: dict[str, float | None] = field(default_factory=dict)  # further ones by name; None: labels have none
    metric_gains: dict[str, Gain] = field(default_factory=dict)  # over the best single member; positive = better
    bill: Bill | None = None  # None where members take part that lrensemble did not train
    over_runs: OverRuns | None = None  # None with fewer than four runs, or where that is too much work


@dataclass(frozen=True)
class Comparison:
    """A team and one of the `BASELINES` on the same test rows.

    Of random teams, and of half and half, the baseline is the mean over many, row by row.
    """

    name: str  # of the team
    baseline: str
    baseline_members: int
    accuracy: float
    baseline_accuracy: float
    nll: float | None  # None where members that give labels take part
    baseline_nll: float | None
    accuracy_gain: Gain  # paired, in points
    nll_gain: Gain | None  # paired, in nats; positive = better
    only_team: int | None = None  # rows that only the team gets right; None where the baseline is a mean
    only_baseline: int | None = None
    p_holm: float | None = None  # p value of the gain, adjusted for the number of teams met by this baseline (Holm)
    draws: int | None = None  # of a mean: number of teams
    baseline_accuracy_sd: float | None = None  # of a mean: standard deviation over the draws
    bill: Bill | None = None  # of the team
    baseline_bill: Bill | None = None
    metric_gains: dict[str, Gain] = field(default_factory=dict)  # none for means; positive = better

    @property
    def is_fair(self) -> bool:
        """Whether team and baseline cost the same."""
        return self.bill is not None and self.baseline_bill is not None and self.bill.equals(self.baseline_bill)


@dataclass(frozen=True)
class Evaluation:
    """Everything that `evaluate` found, and how sure it is.

    Attributes
    ----------
    best_single : id of the member with the best validation accuracy
    scores : the best single member first, the average of all members second, then the teams
    comparisons : every team with every baseline that it can be compared with (a team that *is* the baseline, with
        the same weights, is not)
    control_note : what the seeds-only control is, or why there is none
    default_note : why there are no seeds of a default, where the configuration named one
    left_out : team -> why it could not be evaluated
    members_left_out : id of a damaged member -> what is wrong with it; nothing here knows of it
    metrics_left_out : name of a metric -> why it was not computed
    bill : of every score: all runs of the pool. None for imports, which do not say what they are the best of
    equal_bills : what the teams' selectors make of pool and control together, with seeds-only, which costs as much
    caution : what to keep in mind about several teams on the same rows; empty for one team
    verdicts : team -> five lines in words: worth it or not, the gains, what they are owed to, and the budget
    """

    pool: str
    rows: int
    best_single: str
    scores: list[Score]
    comparisons: list[Comparison]
    control_note: str
    verdicts: dict[str, str]
    caution: str = ""
    left_out: dict[str, str] = field(default_factory=dict)
    members_left_out: dict[str, str] = field(default_factory=dict)
    metrics_left_out: dict[str, str] = field(default_factory=dict)
    chance: float | None = None  # accuracy of guessing; older evaluations do not know it
    bill: Bill | None = None
    equal_bills: list[Comparison] = field(default_factory=list)
    default_note: str = ""

    def score(self, name: str) -> Score:
        """Of the team called `name`; KeyError when it was not evaluated."""
        found = next((score for score in self.scores if score.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def against(self, baseline: str) -> list[Comparison]:
        """The comparisons with one of the `BASELINES`, or with seeds-only `TOGETHER`."""
        return self.equal_bills if baseline == TOGETHER else [r for r in self.comparisons if r.baseline == baseline]

    def to_pandas(self) -> pandas.DataFrame:
        """One row a score, on test: the fields of `Score`, with the ends of intervals in columns of their own.

        Raises `UserError` where pandas is missing.
        """
        return frame([_flat(asdict(score)) for score in self.scores])

    def _repr_html_(self) -> str:
        rows = [
            (
                score.name,
                score.members,
                f"{100 * score.accuracy:.2f} [{100 * score.accuracy_interval[0]:.2f}, "
                f"{100 * score.accuracy_interval[1]:.2f}]",
                _words(score.accuracy_gain, 2) if score is not self.scores[0] else "baseline",
                None if score.nll is None else f"{score.nll:.4f}",
                _words(score.nll_gain, 4) if score is not self.scores[0] else None,
            )
            for score in self.scores
        ]
        columns = ("<team", "members", "accuracy %", "gain, points", "NLL", "NLL saved")
        note = f"test (n = {self.rows:,}), 95 % intervals; gains over the best single member, paired"
        verdicts = [line(f"{name}: {text.partition(chr(10))[0]}.") for name, text in self.verdicts.items()]
        return block(f"Evaluation of {self.pool}", *verdicts, line(note), table(columns, rows))

    def to_dict(self) -> dict[str, Any]:
        return {"split": "test", "interval_level": LEVEL, **asdict(self)}


def _words(gain: Gain | None, digits: int) -> str | None:
    return None if gain is None else "{} [{}, {}]".format(*gain.words(digits))


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """What is inside of values, under its name and theirs; ``accuracy_gain`` itself is a gain's value."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name == "accuracy_interval":
            found["accuracy_low"], found["accuracy_high"] = value
        elif isinstance(value, dict):
            found |= {name if key == "value" else f"{name}_{key}": inner for key, inner in _flat(value).items()}
        else:
            found[name] = value
    return found
