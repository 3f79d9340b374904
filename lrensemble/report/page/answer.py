"""Is it worth it? The evaluation of one team in the words of the page's first lines."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from lrensemble.evaluation import BASELINES, Comparison, Evaluation, Score
from lrensemble.evaluation.verdict import judged
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
            "A good use of the budget?",
            "Is tuning worth it?",
        ),
        strict=True,
    )
)
SINGLE = BASELINES[0]


@dataclass(frozen=True)
class Headline:
    """The heading, the sentences below it, and what they are made of.

    Attributes
    ----------
    verdict : int or None
        1 better than the best single member by what the team was selected for, -1 worse, 0 not shown to differ; None:
        nothing to compare.
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
    """What the test split says about `team`, in the words of its verdict."""
    if evaluation is None or team is None:
        return Headline(
            "No team yet",
            [f"Members only: choose teams with lrensemble select {shlex.quote(str(pool))}, then report again."],
        )
    score = evaluation.score(team.name)
    against = {row.baseline: row for row in evaluation.comparisons if row.name == team.name}
    if SINGLE not in against:
        lines = [f"The pool has {members} complete members." if members > 1 else "The pool has one complete member."]
        lines += ["Select teams of two or more to compare."]
        return Headline(evaluation.verdicts[team.name], lines, None, score, against)
    heading, *lines = evaluation.verdicts[team.name].split("\n")
    if against[SINGLE].nll_gain is None:
        lines.append("Members that give labels alone have no NLL.")
    gain, *_ = judged(against[SINGLE], team.objective)
    return Headline(heading, lines, gain.direction, score, against)
