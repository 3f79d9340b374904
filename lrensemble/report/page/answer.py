"""Is it worth it? The evaluation of one team in the words of the page's first lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lrensemble.evaluation import BASELINES, Comparison, Evaluation, Gain, Score
from lrensemble.evaluation.verdict import DIVERSITY
from lrensemble.pool import Team

# What each baseline answers.
QUESTIONS = dict(
    zip(
        BASELINES,
        (
            "Is an ensemble worth it?",
            "Is leaving members out worth it?",
            "Is the selector worth it?",
            "Does it matter who is in the team?",
            "Is it the LR policies?",
        ),
        strict=True,
    )
)
SINGLE, SEEDS_ONLY = BASELINES[0], BASELINES[-1]


@dataclass(frozen=True)
class Headline:
    """The heading, the sentences below it, and what they are made of.

    Attributes
    ----------
    verdict : int or None
        1 better than the best single member, -1 worse, 0 not shown to differ; None: nothing to compare.
    score : Score or None
        Of the team.
    against : dict of str to Comparison
        The team and each baseline that it was compared with.
    """

    heading: str
    lines: list[str]
    verdict: int | None = None
    score: Score | None = None
    against: dict[str, Comparison] = field(default_factory=dict)


def answer(evaluation: Evaluation | None, team: Team | None, members: int, pool: Path) -> Headline:
    """Say what the test split says about `team`: over the best single member, and over seeds alone."""
    if evaluation is None or team is None:
        return Headline(
            "No team yet", [f"Members only: choose teams with lrensemble select {pool}, then report again."]
        )
    score = evaluation.score(team.name)
    against = {row.baseline: row for row in evaluation.comparisons if row.name == team.name}
    if SINGLE not in against:
        lines = [f"The pool has {members} complete members." if members > 1 else "The pool has one complete member."]
        lines += ["A team of one is no ensemble: select teams of two or more to compare."]
        return Headline("This team is the best single member", lines, None, score, against)
    gain, nll = against[SINGLE].accuracy_gain, against[SINGLE].nll_gain
    heading = {
        1: f"Worth it: {abs(gain.value):.2f} points more accurate than the best single model",
        0: "Not shown to be worth it: its accuracy cannot be told from the best single model's",
        -1: f"Not worth it: {abs(gain.value):.2f} points less accurate than the best single model",
    }[gain.direction]
    if gain.direction == 0 and nll and nll.direction == 1:
        heading = "Worth it for its probabilities; its accuracy cannot be told from the best single model's"
    if nll:
        interval = f"95 % CI {-nll.high:+.4f} to {-nll.low:+.4f}; lower is better"
        change = f" Its NLL changes by {-nll.value:+.4f} nats ({interval})."
    else:
        change = " Members that give labels alone have no NLL."
    members_text = f"{score.members} members" if score.members > 1 else "one member"
    lines = [
        f"On test (n = {evaluation.rows:,}) team {team.name} ({members_text}) gains {_points(gain)} of "
        f"accuracy over the best single model.{change}",
        *_selection(against),
        _diversity(against, evaluation.control_note),
    ]
    return Headline(heading, lines, gain.direction, score, against)


def _points(gain: Gain) -> str:
    return "{} points (95 % CI {} to {})".format(*gain.words())


def _selection(against: dict[str, Comparison]) -> list[str]:
    """Which teams that took no search are better: what a reader must not miss."""
    worse = [
        f"{baseline} ({_points(row.accuracy_gain)})"
        for baseline, row in against.items()
        if baseline not in (SINGLE, SEEDS_ONLY) and row.accuracy_gain.direction < 0
    ]
    return [f"It is shown to be worse than teams that took no search: {', '.join(worse)}."] if worse else []


def _diversity(against: dict[str, Comparison], note: str) -> str:
    """Whether different LR policies are the reason."""
    if SEEDS_ONLY not in against:
        return f"Whether LR diversity is the reason is open: {note}."
    gain = against[SEEDS_ONLY].accuracy_gain
    control = "the same selector makes of the seeds-only control (as many models, the best policy, other seeds)"
    return f"{DIVERSITY[gain.direction]}: {_points(gain)} over what {control}."
