"""The words of the verdict."""

from __future__ import annotations

import pytest

from lrensemble.evaluation import Bill, Comparison, Gain, OverRuns, verdict
from lrensemble.evaluation.verdict import IS_SINGLE, caution

NOTHING = Gain(0.0, -0.1, 0.1)
SAVES, COSTS = Gain(0.0205, 0.0019, 0.041), Gain(-0.02, -0.04, -0.01)


def comparison(baseline: str, gain: Gain, nll: Gain | None = NOTHING, **changes) -> Comparison:
    return Comparison("greedy", baseline, 1, 0.9, 0.8, 0.3, 0.4, gain, nll, **changes)


def lines(objective: str, *comparisons: Comparison) -> list[str]:
    return verdict(comparisons, 10_000, "no control", objective).split("\n")


def test_the_objective_decides_whether_it_is_worth_it():
    row = comparison("best single", NOTHING, SAVES)
    answer, gains, *_ = lines("nll", row)
    assert answer == "Worth it: team greedy has a lower NLL than the best single member"
    assert gains == (
        "Gains over the best single member on test (n = 10,000, 95 % intervals over the rows): NLL +0.0205 nats "
        "[+0.0019, +0.0410], accuracy +0.00 points [-0.10, +0.10]"
    )
    answer, gains, *_ = lines("accuracy", row)
    assert answer.startswith("Not shown to be worth it: the accuracy of team greedy cannot be told from")
    assert "NLL" not in gains
    row = comparison("best single", Gain(1.1, 0.7, 1.5), COSTS, metric_gains={"my:auroc": SAVES})
    assert lines("nll", row)[0] == "Not worth it: team greedy has a higher NLL than the best single member"
    assert lines("accuracy", row)[0] == "Worth it: team greedy is more accurate than the best single member"
    assert lines("my:auroc", row)[0] == "Worth it: team greedy is better in auroc than the best single member"


def test_labels_have_no_nll_and_are_judged_by_accuracy():
    answer, gains, *_ = lines("nll", comparison("best single", Gain(-1, -2, -0.1), None))
    assert answer == "Not worth it: team greedy is less accurate than the best single member"
    assert gains.endswith("rows): accuracy -1.00 points [-2.00, -0.10]")


def test_a_search_whose_rivals_have_no_nll_is_open():
    *_, line = lines("nll", comparison("best single", NOTHING), comparison("all-average", NOTHING, None))
    assert line == "Search or just averaging? Open: the NLL of what it is compared with is not known"


def test_the_best_single_member_is_not_compared_with_itself():
    assert lines("nll", comparison("all-average", NOTHING)) == [IS_SINGLE]


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (SAVES, "LR diversity helps here: NLL +0.0205 nats [+0.0019, +0.0410] over seeds-only"),
        (NOTHING, "LR diversity is not shown to help here"),
        (COSTS, "LR diversity hurts here"),
    ],
)
def test_different_policies_or_just_more_models(gain, words):
    line = lines("nll", comparison("best single", NOTHING), comparison("seeds-only", NOTHING, gain))[2]
    assert line.startswith(f"Different policies or just more models? {words}")
    assert lines("nll", comparison("best single", NOTHING))[2].endswith("? Open: no control")


@pytest.mark.parametrize(
    ("average", "top", "words"),
    [
        (SAVES, SAVES, "The search pays: better than the average of all (NLL +0.0205 nats [+0.0019, +0.0410]), top-k"),
        (SAVES, NOTHING, "The search is not shown to pay: better than the average of all"),
        (COSTS, SAVES, "The search does not pay: better than top-k of its size"),
    ],
)
def test_search_or_just_averaging(average, top, words):
    rows = [comparison("best single", NOTHING), comparison("random", NOTHING)]
    rows += [comparison("all-average", NOTHING, average), comparison("top-k", NOTHING, top)]
    line = lines("nll", *rows)[4]
    assert line.startswith(f"Search or just averaging? {words}")
    assert "not shown to differ from" in line and "random teams of its size" in line


SPENT, TWICE, LONGER = Bill(8, 80, 9.0), Bill(16, 160, 18.0), Bill(8, 96, 9.0)


@pytest.mark.parametrize(
    ("half", "default", "words"),
    [
        ((SAVES, SPENT), None, "Yes, at equal bills: better than half tuning, half seeds (NLL +0.0205 nats [+0.0019, "),
        ((SAVES, SPENT), (NOTHING, SPENT), "Not shown, at equal bills: better than half tuning, half seeds (NLL"),
        ((NOTHING, SPENT), (COSTS, SPENT), "No, at equal bills: not shown to differ from half tuning, half seeds (NLL"),
        ((SAVES, LONGER), None, "Open: better than half tuning, half seeds (NLL"),
        (None, None, "Open: why"),
    ],
)
def test_a_good_use_of_the_budget(half, default, words):
    rows = [comparison("best single", NOTHING)]
    for baseline, found in (("half and half", half), ("default seeds", default)):
        if found:
            rows.append(comparison(baseline, NOTHING, found[0], bill=SPENT, baseline_bill=found[1]))
    line = verdict(rows, 10_000, "no control", unmet="" if half else "why").split("\n")[3]
    assert line.startswith(f"A good use of the budget? {words}")
    assert ("8 trainings each)" in line) == (half is not None and half[1] is SPENT)
    assert ("8 trainings each, but 80 epochs against 96)" in line) == (half is not None and half[1] is LONGER)


def test_bills_are_called_equal_only_where_they_are():
    seeds = comparison("seeds-only", NOTHING, NOTHING, bill=SPENT, baseline_bill=TWICE)
    together = comparison("seeds-only", NOTHING, NOTHING, bill=TWICE, baseline_bill=TWICE)
    *_, policies, budget, _ = verdict([comparison("best single", NOTHING), seeds], 9, "", equal_bill=together).split(
        "\n"
    )
    assert policies.endswith("over seeds-only, from as many models (8 trainings against 16)")
    assert budget.startswith(
        "A good use of the budget? Not shown, at equal bills: not shown to differ from seeds-only,"
    )
    assert budget.endswith("; 16 trainings each)")


def test_what_hangs_on_the_runs_is_kept_apart_from_the_rows():
    row = comparison("best single", NOTHING, SAVES)
    _, gains, *_ = verdict([row], 9, "", over_runs=OverRuns(20, 0.456, 0.01234)).split("\n")
    assert gains.endswith(
        "]. With other runs: NLL ± 0.0123 nats, accuracy ± 0.46 points (standard errors from 20 halves of the pool)"
    )
    _, gains, *_ = verdict([row], 9, "", "accuracy", over_runs=OverRuns(20, 0.456, 0.01234)).split("\n")
    assert "With other runs: accuracy ± 0.46 points" in gains


def test_an_interval_that_the_test_does_not_confirm_shows_nothing():
    assert Gain(0.9, 0.2, 1.6).direction == 1
    assert Gain(0.9, 0.2, 1.6, p_value=0.04).direction == 1
    assert Gain(0.9, 0.2, 1.6, p_value=0.06).direction == 0
    assert Gain(-0.9, -1.6, -0.2, p_value=0.01).direction == -1


def test_what_several_teams_take_away_is_said():
    row = comparison("best single", Gain(1.1, 0.1, 2.1, p_value=0.04), p_holm=0.12)
    assert "[+0.10, +2.10] (not as one of several teams: Holm's p = 0.12)" in verdict([row], 9, "", "accuracy")
    assert caution(1) == ""
    assert caution(3).startswith("3 teams met the same test rows")
