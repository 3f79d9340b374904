"""Evaluation against plain recomputation from the pool's files, and the words of the verdict."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, log_loss

from lrensemble import Pool, UserError, evaluate
from lrensemble.evaluation.stored import read_evaluation
from lrensemble.evaluation.teams import TEST
from lrensemble.pool.select import select_teams
from lrensemble.selection import make_selector, team_vote
from tests.conftest import as_another


def vote(pool: Pool, weights: dict[str, float], split: str = "test") -> np.ndarray:
    return sum(
        w * np.load(pool.path / "members" / i / "predictions" / f"{split}.npy").astype(float)
        for i, w in weights.items()
    )


def test_every_number_equals_plain_recomputation(pool: Pool):
    teams = {t.name: t for t in select_teams(pool)}
    result = evaluate(pool)
    y = np.load(pool.path / "labels" / "test.npy")
    single = vote(pool, {result.best_single: 1.0})
    assert {"greedy", "top-k", "random", "brute-force", "all"} <= {score.name for score in result.scores}
    for score in result.scores:
        if score.name not in teams:
            continue
        p = vote(pool, teams[score.name].members)
        assert score.accuracy == pytest.approx(accuracy_score(y, p.argmax(1)), abs=1e-12)
        assert score.nll == pytest.approx(log_loss(y, p / p.sum(1, keepdims=True)), rel=1e-5)
        difference = 100.0 * ((p.argmax(1) == y).astype(float) - (single.argmax(1) == y))
        assert score.accuracy_gain.value == pytest.approx(difference.mean(), abs=1e-9)
        if difference.any():
            oracle = stats.bootstrap(
                (difference,), np.mean, method="percentile", rng=np.random.default_rng(0)
            ).confidence_interval
            assert score.accuracy_gain.low == pytest.approx(oracle.low, abs=0.3)
            assert score.accuracy_gain.high == pytest.approx(oracle.high, abs=0.3)


def test_baselines_come_first_and_once(pool: Pool):
    select_teams(pool, ["greedy"])
    assert [score.name for score in evaluate(pool).scores] == ["(best single)", "(all-average)", "greedy"]
    select_teams(pool, ["all", "best-single"], objective="accuracy")
    names = [score.name for score in evaluate(pool).scores]
    assert names == ["best-single-accuracy", "all", "greedy"]


def test_best_single_is_chosen_on_validation_alone(pool: Pool):
    select_teams(pool, ["greedy"])
    best = evaluate(pool).best_single
    y = pool.labels("val")
    accuracies = {
        m.id: accuracy_score(y, p.argmax(1)) for m, p in zip(pool.complete, pool.predictions("val"), strict=True)
    }
    assert accuracies[best] == max(accuracies.values())


def test_control_gets_the_same_selector(pool: Pool):
    select_teams(pool, ["greedy", "top-k"], size=2)
    result = evaluate(pool)
    control = pool.control
    y, test_y = control.labels("val"), control.labels("test")
    for row in result.against("seeds-only"):
        name, parameters = ("all", {}) if row.name == "(all-average)" else (row.name.removesuffix("-2"), {"size": 2})
        selector = make_selector(name, **parameters).fit(np.asarray(control.predictions("val")), y)
        expected = selector.predict_proba(np.asarray(control.predictions("test")))
        assert row.baseline_accuracy == pytest.approx(accuracy_score(test_y, expected.argmax(1)), abs=1e-12)
        assert row.accuracy_gain.value == pytest.approx(100 * (row.accuracy - row.baseline_accuracy), abs=1e-9)
        assert row.nll_gain.value == pytest.approx(row.baseline_nll - row.nll, abs=1e-9)
    assert {row.name for row in result.against("seeds-only")} == {"(all-average)", "greedy-2", "top-k-2"}


def test_of_a_team_of_the_best_members_the_control_gives_as_many_of_its_best(pool: Pool):
    [team] = select_teams(pool, ["all"], best=2)
    [row] = [row for row in evaluate(pool).against("seeds-only") if row.name == team.name]
    control = pool.control
    order = sorted(control.complete, key=lambda m: (-m.record.val["accuracy"], m.record.val["nll"], m.id))
    expected = np.asarray(control.predictions("test", order[:2]), float).mean(0)
    assert row.baseline_accuracy == pytest.approx(accuracy_score(control.labels("test"), expected.argmax(1)))
    assert row.baseline_members == 2
    # Where they are others by now it is not compared.
    for wrong in ([team.candidates[0]], 2):
        changed = {"candidates": wrong} if isinstance(wrong, list) else {"parameters": {**team.parameters, "best": "2"}}
        pool.save_team(team.model_copy(update=changed))
        assert not [row for row in evaluate(pool).against("seeds-only") if row.name == team.name]


def test_the_best_members_are_those_that_the_best_single_is_of(pool: Pool):
    """Of equal accuracy the lower NLL is the better, wherever members are ranked."""
    accuracy = max(member.record.val["accuracy"] for member in pool.members)
    for i, member in enumerate(sorted(pool.members, key=lambda m: m.id, reverse=True)):
        metrics = {"val": {**member.record.val, "accuracy": accuracy, "nll": 0.1 + i}}
        member.write_record(member.record.model_copy(update={"metrics": metrics}))
    pool = Pool.open(pool.path)
    [team] = select_teams(pool, ["all"], best=1)
    assert list(team.members) == [pool.best_single().id] == [max(m.id for m in pool.members)]


def test_without_a_control_it_says_so(pool: Pool):
    shutil.rmtree(pool.path / "control")
    select_teams(pool, ["greedy"])
    result = evaluate(pool, "greedy")
    assert result.against("seeds-only") == []
    assert "no seeds-only control was trained" in result.verdicts["greedy"]


def test_an_unfinished_control_is_no_control(pool: Pool):
    select_teams(pool, ["greedy"])
    shutil.rmtree(pool.control.members[0].path)
    result = evaluate(pool, "greedy")
    assert result.against("seeds-only") == []
    assert "has 3 of 4 members" in result.control_note


def test_result_is_kept(pool: Pool):
    select_teams(pool, ["greedy"])
    result = evaluate(pool, ["greedy"])
    kept = json.loads((pool.path / "evaluations" / "greedy.json").read_text())
    assert kept["rows"] == 450
    assert kept["verdict"] == result.verdicts["greedy"]
    assert kept["score"]["accuracy"] == result.scores[-1].accuracy


def test_errors(pool: Pool):
    with pytest.raises(UserError, match="has no teams yet"):
        evaluate(pool)
    team = select_teams(pool, ["random"], size=2)[0]
    with pytest.raises(UserError, match="did you mean 'random-2'"):
        evaluate(pool, "random2")
    shutil.rmtree(pool.path / "members" / next(iter(team.members)))
    with pytest.raises(UserError, match=r"is not in .* any more"):
        evaluate(pool, "random-2")
    pool.save_team(team.model_copy(update={"data_fingerprint": "0" * 32}))
    with pytest.raises(UserError, match="selected on other data"):
        evaluate(pool, "random-2")


def test_pool_without_test_predictions(pool: Pool):
    select_teams(pool, ["greedy"])
    path = pool.best_single().path / "predictions" / "test.npy"
    path.unlink()
    with pytest.raises(UserError, match=f"{path}.*it is missing"):
        evaluate(pool)


def test_a_selector_that_cannot_run_on_the_control_is_left_out(pool: Pool):
    """Diverged members cost their budget: the control has more members than the pool."""
    gone = pool.members[0] if pool.members[0].id != pool.best_single().id else pool.members[1]
    gone.write_record(gone.record.model_copy(update={"status": "diverged"}))
    team = select_teams(pool, ["brute-force", "greedy"], size=2)[0]
    limited = team.model_copy(update={"parameters": {**team.parameters, "max_teams": 4}})  # 3 for the pool, 6 here
    pool.save_team(limited)
    result = evaluate(pool)
    assert {row.name for row in result.against("seeds-only")} == {"(all-average)", "greedy-2"}
    assert "not compared with seeds-only: brute force would try 6 teams" in result.verdicts["brute-force-2"]


def test_a_team_from_a_smaller_pool_is_not_compared_with_the_control(pool: Pool):
    team = select_teams(pool, ["all"])[0]
    pool.save_team(team.model_copy(update={"candidates": team.candidates[:2]}))
    result = evaluate(pool, "all")
    assert result.against("seeds-only") == []
    assert "selected from 2 members, the pool has 4 now: select again" in result.verdicts["all"]


def test_a_diverged_member_of_the_control_costs_its_budget_like_any_other(pool: Pool):
    member = pool.control.members[0]
    member.write_record(member.record.model_copy(update={"status": "diverged"}))
    select_teams(pool, ["greedy"])
    result = evaluate(pool)
    assert {row.name for row in result.against("seeds-only")} == {"greedy", "(all-average)"}
    assert result.control_note.startswith("seeds-only control: 3 members")


def test_another_budget_is_said(pool: Pool):
    best = pool.best_single().id
    member = next(m for m in pool.members if m.id != best)
    spec = member.record.spec
    longer = spec.model_copy(update={"training": spec.training.model_copy(update={"epochs": 40})})
    as_another(pool, member, longer)
    select_teams(pool, ["greedy"])
    found = evaluate(pool)
    assert (found.bill.trainings, found.bill.epochs) == (4, 52)
    bill = found.against("seeds-only")[0].baseline_bill
    assert (bill.trainings, bill.epochs) == (8, 68)
    assert "its bill is 8 trainings (68 epochs in all, 0:0" in found.control_note
    assert "that of the pool's teams 4 trainings (52 epochs in all, 0:0" in found.control_note


def test_at_equal_bills_pool_and_control_are_chosen_from_together(pool: Pool):
    """By hand: the two pools' predictions behind one another, the selector, and the gain over seeds-only."""
    (team,) = select_teams(pool, ["greedy"])
    result = evaluate(pool)
    (row,) = [row for row in result.equal_bills if row.name == "greedy"]
    assert row.baseline == "seeds-only"
    assert row.baseline_bill.trainings == 2 * result.bill.trainings == len(pool.runs) + len(pool.control.members)
    val, test = (
        np.concatenate([np.asarray(one.predictions(split), dtype=float) for one in (pool, pool.control)])
        for split in ("val", "test")
    )
    selector = make_selector("greedy", **team.parameters).fit(val, pool.labels("val"))
    accuracy = (selector.predict_proba(test).argmax(1) == pool.labels("test")).mean()
    (seeds,) = [one for one in result.against("seeds-only") if one.name == "greedy"]
    assert row.accuracy == pytest.approx(accuracy) and row.baseline_accuracy == seeds.baseline_accuracy
    assert row.accuracy_gain.value == pytest.approx(100 * (accuracy - seeds.baseline_accuracy))
    assert re.search(
        r"seeds-only, with the control in the team \(NLL .*; 8 trainings each\)", result.verdicts["greedy"]
    )
    assert "same budget" not in result.control_note + "".join(result.verdicts.values())


def test_every_team_has_a_verdict(pool: Pool):
    teams = select_teams(pool, ["best-single", "greedy", "all"], objective="accuracy")
    result = evaluate(pool)
    assert {team.name for team in teams} <= set(result.verdicts)
    assert result.verdicts["best-single-accuracy"].startswith("This team is the best single member")


def test_test_predictions_that_are_not_finite(pool: Pool):
    from lrensemble.pool.files import write_array
    from lrensemble.pool.record import FileInfo

    member = pool.members[0]
    path = member.path / "predictions" / "test.npy"
    array = np.load(path)
    array[3] = np.nan
    write_array(path, array)
    files = {**member.record.files, "predictions/test.npy": FileInfo.of(path)}
    member.write_record(member.record.model_copy(update={"files": files}))
    select_teams(pool, ["all"])
    with pytest.raises(UserError, match=f"member {member.id} are not finite"):
        evaluate(pool)


@pytest.mark.parametrize("name", ["soft", "logit", "plurality", "majority", "borda"])
def test_a_team_is_evaluated_with_its_own_vote(pool: Pool, name):
    """On test, and against the control, where the same selector finds its own weights and temperatures."""
    team = select_teams(pool, ["greedy", "all"], vote=name, temperature=True, objective="accuracy")[0]
    result = evaluate(pool)
    P = np.stack([np.load(pool.path / "members" / i / "predictions" / "test.npy") for i in team.members])
    temperatures = np.array([team.temperatures[i] for i in team.members])
    p = team_vote(P, np.array(list(team.members.values())), name, temperatures)
    y = pool.labels("test")
    score = next(score for score in result.scores if score.name == team.name)
    assert score.accuracy == pytest.approx(accuracy_score(y, p.argmax(1)), abs=1e-12)
    control = pool.control
    selector = make_selector("greedy", **team.parameters)
    selector.fit(np.asarray(control.predictions("val")), control.labels("val"))
    expected = selector.predict_proba(np.asarray(control.predictions("test"))).argmax(1)
    row = next(row for row in result.against("seeds-only") if row.name == team.name)
    assert row.baseline_accuracy == pytest.approx(accuracy_score(control.labels("test"), expected), abs=1e-12)
    # The baseline stays the plain average.
    assert [score.name for score in result.scores][:2] == ["(best single)", "(all-average)"]


# Evaluations as they lie in a pool


def test_an_evaluation_belongs_to_a_team_and_not_to_a_time(pool: Pool):
    """Members, weights, vote, temperatures and test predictions count; name and clock do not."""
    select_teams(pool, ["greedy"])
    evaluate(pool)
    team = pool.team("greedy")
    known = {member.id: member for member in pool.complete}
    equal = {i: 1 / len(known) for i in known}
    assert read_evaluation(pool, team)[0]["score"]["members"] == len(team.members)
    same = team.model_copy(
        update={"created": "1999-01-01T00:00:00+00:00", "members": dict(reversed(team.members.items()))}
    )
    assert read_evaluation(pool, same)[0] is not None
    for changes in ({"members": equal}, {"vote": "logit"}, {"temperatures": dict.fromkeys(team.members, 2.0)}):
        found, why = read_evaluation(pool, team.model_copy(update={**changes, "created": team.created}))
        assert found is None
        assert "greedy.json is of another team of this name" in why
    member = known[next(iter(team.members))]  # trained again on another device, say
    infos = member.record.files | {TEST: member.record.files[TEST].model_copy(update={"sha256": "0" * 64})}
    member.write_record(member.record.model_copy(update={"files": infos}))
    assert read_evaluation(pool, team)[0] is None


def test_an_evaluation_that_is_no_file_is_named(pool: Pool):
    """It is there, so it is not said that the team was not evaluated."""
    [team] = select_teams(pool, ["all"])
    evaluate(pool)
    path = pool.path / "evaluations" / "all.json"
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"all\.json is a device, no file"):
        read_evaluation(pool, team)


def test_evaluations_of_an_older_version(pool: Pool):
    """They do not say which team they are of: what can be checked is checked."""
    [team] = select_teams(pool, ["greedy"])
    evaluate(pool)
    path = pool.path / "evaluations" / "greedy.json"
    old = json.loads(path.read_text())
    del old["sha256"], old["fingerprint"]
    path.write_text(json.dumps(old))
    assert read_evaluation(pool, team)[0] is not None
    others = [
        {"created": "2999-01-01T00:00:00+00:00"},
        {"validation": {**team.validation, "nll": team.validation["nll"] + 1e-9}},
        {"members": {member.id: 1 / 4 for member in pool.complete}},
    ]
    for changes in others:
        assert read_evaluation(pool, team.model_copy(update=changes))[0] is None
    path.write_text(json.dumps(old | {"score": {**old["score"], "accuracy": 9.0}}))
    with pytest.raises(UserError, match=r"greedy.json: cut off or damaged \(score.accuracy: .*run lrensemble evaluate"):
        read_evaluation(pool, team)
    path.unlink()
    assert "was not evaluated on the test split" in read_evaluation(pool, team)[1]


def test_a_damaged_team_is_left_out_and_said(pool: Pool):
    select_teams(pool, ["greedy", "all"])
    (pool.path / "teams" / "greedy.json").write_text("{")
    result = evaluate(pool)
    assert "greedy.json: cut off or damaged" in result.left_out["greedy"]
    assert result.score("all").members == 4


def test_a_selector_that_is_not_known_here_is_not_compared_with_the_control(pool: Pool):
    [team] = select_teams(pool, ["top-k"], size=2)
    pool.save_team(team.model_copy(update={"name": "theirs", "selector": "of-a-plug-in", "parameters": {"name": "x"}}))
    result = evaluate(pool, "theirs")
    assert result.score("theirs").accuracy == evaluate(pool, team.name).score(team.name).accuracy
    assert [row.name for row in result.against("seeds-only")] == ["(all-average)"]
    assert "unknown selector 'of-a-plug-in'" in result.verdicts["theirs"]
