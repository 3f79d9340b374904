"""Pools become records once, whoever syncs; and the ranking says what the pools say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import optuna
import pytest
from scipy import stats

from lrensemble import Pool, UserError
from lrensemble.cli.main import main
from lrensemble.pool.files import write_sealed
from lrensemble.recommend.database import choose_tasks, find_pools, read_tasks, sync
from lrensemble.recommend.ranking import check_target, default_target, rank
from lrensemble.recommend.runs import FinishedRun, read_run
from lrensemble.recommend.setting import Setting
from lrensemble.recommend.store import open_store

SYNC = """
import sys
from lrensemble.recommend.database import find_pools, sync
from lrensemble.recommend.store import open_store
print(sync(open_store(sys.argv[1], create=True), find_pools([sys.argv[2]])).added)
"""


def check_two_at_once(url: str, folder: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", SYNC, url, folder], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    added = [int(process.communicate()[0]) for process in processes]
    (one,) = read_tasks(open_store(url))
    members = [run.member for run in one.runs]
    assert sum(added) == len(members) == len(set(members)) == 8


def test_several_processes_add_a_member_once(trained, tmp_path):
    check_two_at_once(str(tmp_path / "p.db"), str(trained))


@pytest.mark.postgres
def test_several_processes_with_one_server(trained, empty_postgres):
    check_two_at_once(empty_postgres, str(trained))


def test_records_are_what_the_pool_says(pool: Pool, tmp_path):
    store = open_store(str(tmp_path / "p.db"), create=True)
    first = sync(store, find_pools([pool.path.parent]))
    assert (first.pools, first.added, first.known) == (2, 8, 0)  # the pool and its control
    again = sync(store, find_pools([pool.path, pool.path.parent]))
    assert (again.added, again.known) == (0, 8)
    shutil.copytree(pool.path, tmp_path / "copy")
    assert sync(store, find_pools([tmp_path])).added == 0  # a copy of a member is that member
    (one,) = read_tasks(store)
    runs = {run.member: run for run in one.runs}
    for member in pool.complete:
        run, record = runs[member.id], member.record
        assert (run.policy, run.seed) == (record.spec.policy, record.spec.seed)
        assert run.val == record.metrics["val"] and run.costs["steps"] == record.costs["steps"]
        assert [line[3] for line in run.curve] == [line["val_accuracy"] for line in member.history()]
        assert run.loss_difference == pytest.approx(record.metrics["val"]["nll"] - record.metrics["train"]["loss"])
    (study,) = optuna.get_all_study_summaries(store.storage)
    trials = optuna.load_study(study_name=study.study_name, storage=store.storage).trials
    assert {t.value for t in trials} == {run.accuracy for run in one.runs}
    assert all(list(t.intermediate_values) == [1, 2, 3, 4] for t in trials)


def test_diverged_stopped_and_the_rest(pool: Pool, tmp_path):
    members = pool.complete
    for member, changes in zip(
        members,
        [
            {"status": "diverged", "reason": "the training loss exploded", "metrics": {}},
            {"status": "stopped", "reason": "hopeless", "metrics": {}},
            {"status": "failed", "reason": "ValueError: no"},
        ],
        strict=False,
    ):
        data = json.loads(member.record_path.read_text())
        write_sealed(member.record_path, {**data, **changes})
    shutil.rmtree(pool.path / "control")
    (pool.path / "members" / "broken").mkdir()
    (pool.path / "members" / "broken" / "record.json").write_text("{")
    store = open_store(str(tmp_path / "p.db"), create=True)
    result = sync(store, [pool])
    assert result.added == 3 and result.left_out == {"not finished": 1, "damaged": 1}
    (study,) = optuna.get_all_study_summaries(store.storage)
    trials = {
        t.user_attrs["member"]: t for t in optuna.load_study(study_name=study.study_name, storage=store.storage).trials
    }
    diverged, stopped = trials[members[0].id], trials[members[1].id]
    assert diverged.state == stopped.state == optuna.trial.TrialState.PRUNED
    assert diverged.user_attrs["status"] == "diverged" and "exploded" in diverged.user_attrs["reason"]
    assert not diverged.intermediate_values and stopped.intermediate_values
    # The sampler takes it, and puts the diverged run last.
    study = optuna.load_study(study_name=study.study_name, storage=store.storage)
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=0, multivariate=False, seed=0)
    assert study.ask().suggest_float("k0", 1e-3, 1, log=True)


def test_an_unfinished_trial_of_a_finished_member_is_finished(pool: Pool, tmp_path):
    """A search that was killed after its member was trained."""
    store = open_store(str(tmp_path / "p.db"), create=True)
    member = pool.complete[0]
    task = Setting.of(pool.task.data, pool.task.data_fingerprint, member.record.spec)
    study = optuna.create_study(study_name=task.study, storage=store.storage, direction="maximize")
    study.ask().set_user_attr("member", member.id)
    assert sync(store, find_pools([pool.path])).added == 8
    trials = study.get_trials()
    assert len(trials) == 8 and trials[0].value == member.record.metrics["val"]["accuracy"]


def runs_of(*rows: tuple[str, int, str, float | None, list[float]]) -> list[FinishedRun]:
    return [
        FinishedRun(
            member=f"m{i}",
            policy=policy,
            seed=seed,
            status=status,
            reason=None,
            pool="p",
            val_rows=1000,
            chance=0.1,
            val={} if accuracy is None else {"accuracy": accuracy, "nll": 1 - accuracy},
            train={"loss": 0.1},
            costs={"seconds": 5.0},
            curve=[[e + 1, 10 * (e + 1), e + 1.0, a] for e, a in enumerate(curve)],
        )
        for i, (policy, seed, status, accuracy, curve) in enumerate(rows)
    ]


FAST, SLOW, HOT = "FIX(k0=0.1)", "COS(k0=0.1, l=100%)", "FIX(k0=1)"
TASK = Setting(data="d", fingerprint="f", model="m", batch_size=1, epochs=4)
RUNS = runs_of(
    (FAST, 0, "complete", 0.92, [0.5, 0.9, 0.91, 0.92]),
    (FAST, 1, "complete", 0.90, [0.5, 0.8, 0.9, 0.90]),
    (SLOW, 0, "complete", 0.95, [0.1, 0.2, 0.3, 0.95]),
    (SLOW, 1, "complete", 0.89, [0.1, 0.2, 0.3, 0.89]),
    (HOT, 0, "diverged", None, []),
)


def test_runs_of_older_versions_knew_their_classes():
    data = {**asdict(RUNS[0]), "classes": 4}
    del data["chance"]
    trial = optuna.trial.create_trial(value=0.9, user_attrs={"run": data})
    assert read_run(trial) == replace(RUNS[0], chance=0.25) and data["classes"] == 4


def test_ranking_by_accuracy_and_its_uncertainty():
    rows = {row.policy: row for row in rank(TASK, RUNS, "accuracy", 0.9)}
    assert [*rows] == [SLOW, FAST, HOT]
    row = rows[FAST]
    assert row.n == 2 and row.accuracy == pytest.approx(0.91) and row.nll == pytest.approx(0.09)
    assert row.sd == pytest.approx(np.std([0.92, 0.90], ddof=1))
    interval = stats.t.interval(0.95, 1, 0.91, stats.sem([0.92, 0.90]))
    assert row.interval == pytest.approx(np.clip(interval, 0, 1))  # of a share
    assert row.se == pytest.approx(np.sqrt(0.91 * 0.09 / 1000))
    assert rows[HOT].accuracy is None and rows[HOT].diverged == 1


def test_ranking_by_steps_counts_who_never_arrives():
    rows = rank(TASK, RUNS, "iterations-to-target", 0.9)
    assert [(row.policy, row.reached, row.asked, row.steps) for row in rows] == [
        (FAST, 2, 2, 25.0),
        (SLOW, 1, 2, 40.0),
        (HOT, 0, 1, None),
    ]
    assert rank(TASK, RUNS, "seconds", 0.9)[0].seconds_to == 2.5


def test_a_run_stopped_before_the_target_does_not_tell():
    runs = runs_of((FAST, 0, "stopped", None, [0.5]), (FAST, 1, "stopped", None, [0.5, 0.95]))
    (row,) = rank(TASK, runs, "iterations-to-target", 0.9)
    assert (row.asked, row.reached, row.n, row.stopped) == (1, 1, 0, 2)


def test_robustness_over_lr_factors():
    runs = [*RUNS, *runs_of(("SCALE(FIX(k0=1), by=0.05)", 0, "complete", 0.8, [0.1, 0.2, 0.3, 0.8]))]
    rows = {row.policy: row.robustness for row in rank(TASK, runs, "robustness", 0.9)}
    assert rows[SLOW] is None
    assert rows[FAST].factors == (0.5, 1, 10)
    assert rows[FAST].mean == pytest.approx((0.8 + 0.91 + 0.1) / 3)  # the diverged one is chance
    assert rows[FAST].worst == pytest.approx(0.1)
    assert rows[HOT].factors == (0.1, 1)  # 0.05 is more than a factor of 10 away
    assert rank(TASK, runs, "robustness", 0.9)[-1].policy == SLOW


def test_targets():
    assert default_target(RUNS) == 0.91
    assert default_target([replace(RUNS[4])]) is None
    with pytest.raises(UserError, match=r"at most 1: write 0\.91 for 91 %"):
        check_target(91)
    for wrong in (0, -1, 1.5e3, float("nan")):
        with pytest.raises(UserError, match="target"):
            check_target(wrong)


def test_choosing_tasks(trained, tmp_path):
    store = open_store(str(tmp_path / "p.db"), create=True)
    with pytest.raises(UserError, match="no records"):
        choose_tasks(read_tasks(store))
    sync(store, find_pools([trained]))
    tasks = read_tasks(store)
    assert choose_tasks(tasks, data="digits", model="mlp", optimizer="SGD", batch_size=64, epochs=4) == tasks
    with pytest.raises(UserError, match=r"no record has data digts: did you mean 'digits'"):
        choose_tasks(tasks, data="digts")
    with pytest.raises(UserError, match=r"no record has epochs 5 with data digits: .*Known: 4"):
        choose_tasks(tasks, data="digits", epochs=5)


def test_tasks_differ_in_what_matters(trained):
    pool = Pool.open(trained)
    spec = pool.members[0].record.spec
    task = Setting.of(pool.task.data, pool.task.data_fingerprint, spec)
    training = spec.training
    for change, same in [
        ({"seed": 7}, True),
        ({"policy": "FIX(k0=1)"}, True),
        ({"training": training.model_copy(update={"until": 0.5})}, True),
        ({"training": training.model_copy(update={"mixup": 0.5})}, False),
        ({"training": training.model_copy(update={"batch_size": 8})}, False),
        ({"model": spec.model.model_copy(update={"name": "lenet"})}, False),
    ]:
        assert (
            Setting.of(pool.task.data, pool.task.data_fingerprint, spec.model_copy(update=change)).study == task.study
        ) is same, change
    own = Setting.of({"name": "npz", "root": "/data/cells.npz"}, "f", spec)
    assert str(own).startswith("npz:cells | mlp(hidden=[16], dropout=0.1) | SGD(momentum=0.9) | batch 64 | 4 epochs")
    assert Setting.of({"name": "text", "root": "/data/trec.jsonl"}, "f", spec).data == "text:trec"


def test_the_command(trained, tmp_path, capsys):
    storage = ["--storage", str(tmp_path / "p.db")]
    assert main(["database", "top", *storage]) == 2
    assert "does not exist: name the file of a study; lrensemble policies sync" in capsys.readouterr().err
    assert main(["database", "sync", str(trained), *storage, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 8
    assert main(["database", "ls", *storage, "--format", "json"]) == 0
    (task,) = json.loads(capsys.readouterr().out)
    assert task["complete"] == 8 and task["policies"] == 4
    for by in ("accuracy", "nll", "iterations-to-target", "seconds", "robustness"):
        assert main(["database", "top", "--data", "digits", "--by", by, *storage, "--format", "json"]) == 0
        (top,) = json.loads(capsys.readouterr().out)
        assert len(top["policies"]) == 4 and top["policies"][0]["rows"] == 337 and top["split"] == "validation"
    assert main(["database", "top", *storage]) == 0
    out = capsys.readouterr().out
    assert "n = 337" in out and "FIX(k0=0.1)" in out
    assert main(["database", "top", "--target", "91", *storage]) == 2
    assert main(["database", "sync", str(tmp_path / "nothing"), *storage]) == 2
    assert "is not a pool" in capsys.readouterr().err
