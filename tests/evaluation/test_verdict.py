"""The words of the verdict."""

from __future__ import annotations

import pytest

from lrensemble.evaluation import Comparison, Gain, verdict
from lrensemble.evaluation.verdict import caution

NOTHING = Gain(0.0, -0.1, 0.1)


def comparison(baseline: str, gain: Gain, **changes) -> Comparison:
    return Comparison("greedy", baseline, 1, 0.9, 0.8, 0.3, 0.4, gain, NOTHING, **changes)


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        (
            {"best single": Gain(1.1, 0.7, 1.5), "seeds-only": Gain(0.3, -0.1, 0.7)},
            [
                "+1.10 points (95 % CI +0.70 to +1.50, n = 10,000): better than the best single member",
                "+0.30 points (95 % CI -0.10 to +0.70) over seeds-only: LR diversity is not shown to help here",
            ],
        ),
        ({"best single": Gain(1.1, 0.7, 1.5), "seeds-only": Gain(0.3, 0.1, 0.7)}, ["LR diversity helps here"]),
        (
            {"best single": Gain(0.1, 0.0, 0.5), "seeds-only": Gain(-0.3, -0.5, -0.1)},
            ["not shown to differ from the best single", "LR diversity hurts here"],
        ),
        ({"best single": Gain(-1, -2, -0.1)}, ["worse than the best single", "; no control"]),
        (
            {
                "best single": Gain(1.1, 0.7, 1.5),
                "all-average": Gain(-0.3, -0.5, -0.1),
                "top-k": Gain(0.004, -0.2, 0.2),
                "random": Gain(0.3, 0.1, 0.5),
            },
            [
                "; better than random teams of its size (+0.30, CI +0.10 to +0.50)",
                "; not shown to differ from top-k of its size (+0.00, CI -0.20 to +0.20)",
                "; worse than the average of all (-0.30, CI -0.50 to -0.10)",
            ],
        ),
    ],
)
def test_verdict(gains, words):
    text = verdict([comparison(name, gain) for name, gain in gains.items()], 10_000, "no control")
    for some in words:
        assert some in text
    assert ("no control" in text) == ("seeds-only" not in gains)


def test_an_interval_that_the_test_does_not_confirm_shows_nothing():
    assert Gain(0.9, 0.2, 1.6).direction == 1
    assert Gain(0.9, 0.2, 1.6, p_value=0.04).direction == 1
    assert Gain(0.9, 0.2, 1.6, p_value=0.06).direction == 0
    assert Gain(-0.9, -1.6, -0.2, p_value=0.01).direction == -1


def test_what_several_teams_take_away_is_said():
    row = comparison("best single", Gain(1.1, 0.1, 2.1, p_value=0.04), p_holm=0.12)
    assert "better than the best single member (not as one of several teams: Holm's p = 0.12)" in verdict([row], 9, "")
    assert caution(1) == ""
    assert caution(3).startswith("3 teams met the same test rows")
