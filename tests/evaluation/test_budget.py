"""Bills, other ways to spend them, and what hangs on the runs: against recomputation by hand."""

from __future__ import annotations

import itertools
import json
import re
import shutil

import numpy as np
import pytest
from sklearn.metrics import log_loss

from lrensemble import Pool, UserError, evaluate, load_config, train_pool
from lrensemble.cli import output
from lrensemble.cli.main import main
from lrensemble.evaluation import over_pools
from lrensemble.evaluation.halves import jackknife
from lrensemble.evaluation.results import TOGETHER, Bill
from lrensemble.examples import example
from lrensemble.pool.record import DEFAULT
from lrensemble.pool.select import select_teams
from lrensemble.selection import make_selector
from tests.conftest import tiny_config

ALONE = {"workers": 1, "threads": 1, "devices": "cpu"}
POLICY = "COS(k0=0.05, l=100%)"


def predictions(members: list, split: str) -> np.ndarray:
    return np.stack([np.load(m.path / "predictions" / f"{split}.npy").astype(float) for m in members])


def accuracy(member) -> float:
    return member.record.metrics["val"]["accuracy"]


def halves_of(pool: Pool) -> list[list]:
    return [list(half) for half in itertools.combinations(pool.complete, len(pool.complete) // 2)]


def test_the_jackknife_of_a_mean_is_its_standard_error():
    """Exactly, where all halves are there (Shao & Wu 1989): s / sqrt(n)."""
    values = np.random.default_rng(0).normal(size=9)
    for kept in (3, 4, 6):
        means = [np.mean(subset) for subset in itertools.combinations(values, kept)]
        assert jackknife(means, 9, kept) == pytest.approx(values.std(ddof=1) / 3)


def test_gains_over_runs_are_of_all_halves(pool: Pool):
    """Four runs have six halves: the selector and the best single member of each, by hand."""
    (team,) = select_teams(pool, ["greedy"])
    y, test_y = pool.labels("val"), pool.labels("test")
    gains = []
    for half in halves_of(pool):
        selector = make_selector("greedy", **team.parameters).fit(predictions(half, "val"), y)
        vote = selector.predict_proba(predictions(half, "test"))
        single = predictions([max(half, key=accuracy)], "test")[0]
        gains.append(
            [
                100 * ((vote.argmax(1) == test_y).mean() - (single.argmax(1) == test_y).mean()),
                log_loss(test_y, single / single.sum(1, keepdims=True))
                - log_loss(test_y, vote / vote.sum(1, keepdims=True)),
            ]
        )
    result = evaluate(pool)
    over_runs = result.score("greedy").over_runs
    assert over_runs.halves == 6
    assert [over_runs.accuracy, over_runs.nll] == pytest.approx(np.std(gains, axis=0), rel=1e-4)
    words = f"With other runs: NLL ± {over_runs.nll:.4f} nats, accuracy ± {over_runs.accuracy:.2f} points"
    assert words in result.verdicts["greedy"]


def test_half_tuning_half_seeds_is_the_mean_over_halves(pool: Pool):
    """The control's members are made equal, so that it does not matter which of them are drawn."""
    (team,) = select_teams(pool, ["greedy"])
    fresh = pool.control.members
    for split, other in itertools.product(("val", "test"), fresh[1:]):
        shutil.copy(fresh[0].path / "predictions" / f"{split}.npy", other.path / "predictions" / f"{split}.npy")
        info = fresh[0].record.files[f"predictions/{split}.npy"]
        record = other.record
        files = record.files | {f"predictions/{split}.npy": info}
        other.write_record(record.model_copy(update={"files": files}))
    pool = Pool.open(pool.path)
    best = max(pool.complete, key=accuracy).id
    y, test_y = pool.labels("val"), pool.labels("test")
    right, nll = [], []
    for half in halves_of(pool):
        if best in [member.id for member in half]:
            both = [*half, *pool.control.members[:2]]
            selector = make_selector("greedy", **team.parameters).fit(predictions(both, "val"), y)
            vote = selector.predict_proba(predictions(both, "test"))
            right.append((vote.argmax(1) == test_y).mean())
            nll.append(log_loss(test_y, vote / vote.sum(1, keepdims=True)))
    result = evaluate(pool)
    (row,) = [row for row in result.against("half and half") if row.name == "greedy"]
    assert len(right) == row.draws == 3
    assert row.baseline_accuracy == pytest.approx(np.mean(right))
    assert row.baseline_accuracy_sd == pytest.approx(np.std(right, ddof=1))
    assert row.baseline_nll == pytest.approx(np.mean(nll), rel=1e-5)
    assert row.accuracy_gain.value == pytest.approx(100 * (row.accuracy - np.mean(right)))
    assert row.is_fair and row.bill.trainings == row.baseline_bill.trainings == 4


def test_a_default_costs_as_much_as_the_pool_and_no_tuning(trained, tmp_path, capsys):
    """Into an old pool with a seeds-only control: that one stays, and both questions are answered."""
    before = Pool.open(trained)
    path = shutil.copytree(trained, tmp_path / "tiny")
    pool = train_pool(load_config(tiny_config(control=POLICY)), path, **ALONE)
    assert [m.id for m in pool.members] == [m.id for m in before.members]
    control = {m.id: m for m in pool.control.members}
    new = [control[i] for i in control.keys() - {m.id for m in before.control.members}]
    assert len(new) == len(pool.runs) == 4 and len(control) == 8
    assert {m.record.spec.policy for m in new} == {POLICY} and all(m.record.spec.notes == DEFAULT for m in new)
    assert len({m.record.spec.seed for m in new} | {0}) == 5
    (team,) = select_teams(pool, ["greedy"])
    result = evaluate(pool)
    val, test = (predictions(sorted(new, key=lambda m: m.id), split) for split in ("val", "test"))
    vote = make_selector("greedy", **team.parameters).fit(val, pool.labels("val")).predict_proba(test)
    (row,) = [row for row in result.against("default seeds") if row.name == "greedy"]
    assert row.baseline_accuracy == pytest.approx((vote.argmax(1) == pool.labels("test")).mean())
    assert row.is_fair and row.baseline_bill.trainings == 4
    assert row.baseline_bill.seconds == pytest.approx(sum(m.record.costs["seconds"] for m in new))
    (seeds,) = [row for row in result.against("seeds-only") if row.name == "greedy"]
    assert not seeds.is_fair and seeds.baseline_bill.trainings == 8
    budget = result.verdicts["greedy"].split("\n")[3]
    assert re.search(r"seeds of a default fixed before training \(NLL .*?; 4 trainings each\)", budget)
    assert main(["train", str(_file(tmp_path, control=POLICY)), "--pool", str(path), "--dry-run"]) == 0
    assert f"4 members and 4 seeds of the default {POLICY}, 0 to train" in capsys.readouterr().out
    # Another default, chosen after the fact, is none.
    train_pool(load_config(tiny_config(control="FIX(0.01)")), path, **ALONE)
    again = evaluate(Pool.open(path)).against("default seeds")
    assert [one.baseline_accuracy for one in again if one.name == "greedy"] == [row.baseline_accuracy]


def test_a_default_that_diverges_is_one_line(tmp_path):
    pool = train_pool(load_config(tiny_config(control="FIX(1e30)")), tmp_path / "p", **ALONE)
    assert {m.status for m in pool.control.members} == {"diverged"}
    select_teams(pool, ["greedy"])
    result = evaluate(pool)
    assert result.default_note == "all 4 seeds of the default FIX(k0=1e+30) diverged"
    policies, budget = result.verdicts["greedy"].split("\n")[2:4]
    assert policies.endswith("no seeds-only control was trained (control: true in the configuration trains one)")
    assert budget == f"A good use of the budget? Open: {result.default_note}"


def _file(folder, **changes):
    path = folder / "config.yaml"
    path.write_text(json.dumps(tiny_config(**changes)))
    return path


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ("COSS(k0=0.1)", "control: unknown LR policy 'COSS': did you mean 'COS'"),
        ("FIX(k0=[0.1, 0.2])", "is a grid of 2 policies where one is needed"),
        (3, "control = 3: true, false or a policy is needed"),
        (["COS(k0=0.05", "l=100%)"], "true, false or a policy is needed"),
    ],
)
def test_a_control_that_is_none(control, words):
    with pytest.raises(UserError, match=re.escape(words)):
        load_config(tiny_config(control=control))


def test_members_of_unknown_cost_have_no_bill(pool: Pool):
    perfect = {split: np.eye(10, dtype=np.float32)[pool.labels(split)] for split in ("val", "test")}
    with pool.member(model="mine", seed=3) as recorder:
        recorder.predict(**perfect)
    pool = Pool.open(pool.path)
    select_teams(pool, ["greedy"], objective="accuracy", size=3)
    result = evaluate(pool)
    assert {score.bill for score in result.scores} == {result.bill} == {None}
    assert not result.against("half and half") and not result.equal_bills
    assert "trainings each" not in "".join(result.verdicts.values())


def test_other_ways_to_spend_the_budget_over_several_pools(pool: Pool):
    select_teams(pool, ["greedy"])
    result = evaluate(pool)
    (row,) = [row for row in over_pools([result, result]) if row.name == "greedy"]
    for baseline in ("half and half", TOGETHER):
        (met,) = [one for one in result.against(baseline) if one.name == "greedy"]
        assert row.gains[baseline].mean == pytest.approx(met.accuracy_gain.value)


def test_bills_that_differ_are_not_called_equal():
    bill = Bill(14, 420, 9.0)
    assert (
        bill.equals(Bill(14, 420, 99.0)) and not bill.equals(Bill(14, 421, 9.0)) and not bill.equals(Bill(28, 420, 9))
    )


def test_the_demo_says_its_bills(tmp_path, monkeypatch, capsys):
    """The demo's pool, of short runs: every bill is that of the records, and only equal ones are called so."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "p"
    few = ["training.epochs=1"]
    pool = train_pool(load_config(example("demo"), few), path, **ALONE)
    select_teams(pool, ["greedy", "top-k"])
    assert main(["evaluate", str(path)]) == 0
    shown = capsys.readouterr().out
    result = evaluate(pool)
    seconds = [sum(m.record.costs["seconds"] for m in part.members) for part in (pool, pool.control)]
    own, both = (14, 14, seconds[0]), (28, 28, sum(seconds))
    bills = {"seeds-only": both}
    for row in [*result.comparisons, *result.scores]:
        assert (row.bill.trainings, row.bill.epochs, row.bill.seconds) == pytest.approx(own)
    for row in result.comparisons:
        found = row.baseline_bill
        assert (found.trainings, found.epochs) == bills.get(row.baseline, own)[:2]
        if row.baseline != "half and half":  # a mean over draws
            assert found.seconds == pytest.approx(bills.get(row.baseline, own)[2])
        assert row.is_fair == (row.baseline != "seeds-only")
    for row in result.equal_bills:
        assert [bill.trainings for bill in (row.bill, row.baseline_bill)] == [28, 28] and row.is_fair
    text = " ".join([shown, *result.verdicts.values(), result.control_note, json.dumps(result.to_dict())])
    assert "same budget" not in text
    for verdict in result.verdicts.values():
        if "\n" in verdict:
            policies, budget = verdict.split("\n")[2:4]
            assert policies.endswith("(14 trainings against 28)") and "equal bills" not in policies
            assert set(re.findall(r"(\d+ trainings) each", budget)) <= {"14 trainings", "28 trainings"}
            assert "against" not in budget and "at equal bills: " in budget
    # Where all took the same second, the time is above the table.
    assert re.search(r"(?m)^seeds-only +28 +([\d:]+ +)?14 ", shown)
    assert re.search(r"(?m)^half and half +14 +([\d:]+ +)?14 ", shown)
    monkeypatch.setattr(output, "terminal_width", lambda: 80)
    assert main(["evaluate", str(path)]) == 0
    narrow = capsys.readouterr().out.split("and the bills of both\n")[1]
    same, columns = re.fullmatch(r"(In every row: time [\d:]+\n)?(over .*)", narrow.split("\nbest single")[0]).groups()
    assert columns.split() == ["over", "trainings", *([] if same else ["time"]), "own", "NLL", "gain"]
