"""Is it worth it? The evaluation of one team in the words of the page's first lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lrensemble.evaluation import Comparison, Evaluation, Gain, Score
from lrensemble.pool import Team


@dataclass(frozen=True)
class Answer:
    """The heading, the sentences below it, and what they are made of.

    Attributes
    ----------
    verdict : int or None
        1 better than the best single member, -1 worse, 0 not shown to differ; None: nothing to compare.
    score, single : Score or None
        Of the team, and of the best single member.
    control : Comparison or None
        The team against the seeds-only control.
    """

    heading: str
    lines: list[str]
    verdict: int | None = None
    score: Score | None = None
    single: Score | None = None
    control: Comparison | None = None


def answer(evaluation: Evaluation | None, team: Team | None, members: int, pool: Path) -> Answer:
    """Say what the test split says about `team`: over the best single member, and over seeds alone."""
    if evaluation is None or team is None:
        return Answer("No team yet", [f"Members only: choose teams with lrensemble select {pool}, then report again."])
    single = evaluation.scores[0]
    score = next(score for score in evaluation.scores if score.name == team.name)
    if score is single:
        lines = [f"The pool has {members} members." if members > 1 else "The pool has one complete member."]
        lines += ["A team of one is no ensemble: select teams of two or more to compare."]
        return Answer("This team is the best single member", lines, None, score, single)
    control = next((row for row in evaluation.control if row.name == team.name), None)
    heading = {
        1: f"Worth it: {_points(score.accuracy_gain)} more accurate than the best single model",
        0: "Not shown to be worth it: its accuracy cannot be told from the best single model's",
        -1: f"Not worth it: {_points(score.accuracy_gain)} less accurate than the best single model",
    }[score.accuracy_gain.direction]
    if score.accuracy_gain.direction == 0 and score.nll_gain.direction == 1:
        heading = "Worth it for its probabilities; its accuracy cannot be told from the best single model's"
    return Answer(
        heading,
        [evaluation.verdicts[team.name], *_probabilities(score)],
        score.accuracy_gain.direction,
        score,
        single,
        control,
    )


def _points(gain: Gain) -> str:
    return f"{abs(gain.value):.2f} points"


def _probabilities(score: Score) -> list[str]:
    gain = score.nll_gain
    what = {1: "better", 0: "not shown to differ", -1: "worse"}[gain.direction]
    interval = f"95 % CI {-gain.high:+.4f} to {-gain.low:+.4f}"
    return [f"Its probabilities: NLL {-gain.value:+.4f} nats ({interval}, lower is better): {what}."]
