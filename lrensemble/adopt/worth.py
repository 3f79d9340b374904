"""What the members of a pool are worth together: a team, chosen on validation, against the best of them on test."""

from __future__ import annotations

from dataclasses import dataclass

from lrensemble.evaluation import Evaluation, Gain, evaluate
from lrensemble.evaluation.results import BEST_SINGLE
from lrensemble.pool import Pool, Team
from lrensemble.pool.select import select_teams
from lrensemble.pool.team import team_order


@dataclass(frozen=True)
class Worth:
    """A team and what it gains over the best single member.

    Attributes
    ----------
    runs : members that could have been in it
    team : the best on validation
    gain : in points of accuracy on test, with its interval; None where the team is the best member alone
    """

    runs: int
    team: Team
    gain: Gain | None
    evaluation: Evaluation

    def __str__(self) -> str:
        """``You have 40 runs: a team of 5 is worth +1.30 points over the best of them``, with split, n and interval."""
        have = f"You have {self.runs} runs"
        if self.gain is None:
            return f"{have}: no team of them is better on validation than the best one alone"
        value, low, high = self.gain.words()
        what = f"a team of {len(self.team.members)} ({self.team.name})"
        where = f"on test (n = {self.evaluation.rows:,}, 95 % interval [{low}, {high}])"
        if self.gain.direction > 0:
            return f"{have}: {what} is worth {value} points of accuracy over the best of them, {where}"
        return f"{have}: {what} is not shown to be more accurate than the best of them: {value} points {where}"


def worth(pool: Pool) -> Worth | None:
    """Select teams as `select_teams` does by default, and evaluate them; None for fewer than two members."""
    members = pool.usable("val", "test")
    if len(members) < 2:
        return None
    teams = [team for team in select_teams(pool) if not team.is_control]
    if not teams:
        return None
    team, found = min(teams, key=team_order), evaluate(pool)  # the best one alone, too
    gain = next((row.accuracy_gain for row in found.against(BEST_SINGLE) if row.name == team.name), None)
    gain = gain if len(team.members) > 1 else None
    return Worth(len(members), team, gain, found)
