"""The search for a policy: it goes on, shares its work, prunes by full-budget curves, and claims fresh seeds alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest

from lrensemble import Pool, UserError, load_config
from lrensemble.cli.main import main
from lrensemble.cli.recommend import PRUNERS, SAMPLERS
from lrensemble.pool import Member
from lrensemble.recommend import recommend as module
from lrensemble.recommend.candidates import baselines, first_policies
from lrensemble.recommend.database import find_pools, read_tasks, sync
from lrensemble.recommend.recommend import FRESH, recommend, similar
from lrensemble.recommend.runs import Objective
from lrensemble.recommend.search import Search, search
from lrensemble.recommend.store import open_store
from lrensemble.training import make_plan
from tests.conftest import tiny_config
from tests.recommend.test_database import FAST, HOT, RUNS, SLOW, runs_of

OPTIONS = {"devices": "cpu", "threads": 1}


def wanted(folder: Path, **changes) -> Search:
    epochs = changes.pop("epochs", 2)
    config = load_config(
        tiny_config(training={"epochs": epochs, "batch_size": 64}, control=False, model={"name": "mlp", "hidden": [16]})
    )
    values = {"trials": 3, "objective": Objective(), "k0": (0.01, 0.3), "options": OPTIONS, **changes}
    return Search(make_plan(config, folder / "pool"), open_store(str(folder / "p.db"), create=True), **values)


def trials_of(one: Search) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=one.objective.study(one.task), storage=one.store.storage).trials


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_new_policies(sampler, tmp_path):
    pytest.importorskip("cmaes") if sampler == "cmaes" else None
    one = wanted(tmp_path, sampler=sampler, trials=13 if sampler != "grid" else 3, epochs=1)
    told = []
    search(one, tell=lambda run, count: told.append((run.member, count)))
    trials = trials_of(one)
    assert len({member for member, _ in told}) == len(told) == one.trials
    assert [count for _, count in told] == [*range(1, one.trials + 1)]
    members = {m.id: m.record for m in Pool.open(one.plan.pool).members}
    assert {t.user_attrs["member"] for t in trials if "member" in t.user_attrs} == set(members)
    for t in trials:
        if t.state == optuna.trial.TrialState.COMPLETE:
            record = members[t.user_attrs["member"]]
            assert t.value == record.metrics["val"]["accuracy"] and t.user_attrs["policy"] == record.spec.policy


@pytest.mark.parametrize(
    "pruner", [pytest.param(p, marks=[pytest.mark.slow] if p in ("halving", "hyperband") else []) for p in PRUNERS]
)
def test_pruners_stop_what_is_behind(pruner, tmp_path):
    """LRs that train nothing come after ones that do: only those are stopped, at the share of the budget due."""
    one = wanted(tmp_path, pruner=pruner, epochs=10, trials=14)
    good = [policy for k0 in (0.3, 0.25) for policy in first_policies((0.1, k0))][:12]
    bad = [type(good[0]).parse(f"FIX(k0={lr})") for lr in (1e-6, 2e-6)]
    ended = {}
    search(Search(**{**vars(one), "first": [*good, *bad]}), tell=lambda run, count: ended.setdefault(run.policy, run))
    stopped = [ended[str(policy)] for policy in bad if ended[str(policy)].status == "stopped"]
    if pruner == "none":
        assert all(run.is_complete for run in ended.values())
        return
    assert stopped
    for run in stopped:
        assert 3 <= run.curve[-1][0] < 10 and f"pruned ({pruner})" in run.reason
    states = {t.user_attrs["policy"]: t.state for t in trials_of(one)}
    assert all(states[run.policy] == optuna.trial.TrialState.PRUNED for run in stopped)
    # A pruned policy is worse at the end, too: the same without pruner.
    if pruner == "median":
        assert not any(ended[str(policy)].status == "stopped" for policy in good[:10])


def test_what_a_target_is_worth():
    to = Objective(0.9)
    fast, _, slow, missed, hot = RUNS
    assert (to.value(fast), to.value(slow), to.value(hot)) == (20, 40, None)
    assert to.value(missed) == pytest.approx(40 * 1.01)  # 0.01 below it at the end
    (stopped,) = runs_of((FAST, 0, "stopped", None, [0.5, 0.6]))
    assert to.value(stopped) is None and Objective().value(stopped) is None
    assert to.shown(0.7) == pytest.approx(0.3) and Objective().shown(0.7) == 0.7
    assert (to.direction, Objective().direction) == ("minimize", "maximize")
    assert HOT != SLOW


def test_a_search_for_steps_is_recorded_in_the_tasks_own_study_too(tmp_path):
    one = wanted(tmp_path, objective=Objective(0.5), trials=2)
    search(one)
    values = [t.value for t in trials_of(one)]
    steps = one.steps_per_epoch
    assert all(value == steps or value >= 2 * steps for value in values)
    (own,) = read_tasks(one.store)
    assert len(own.runs) == 2 and "steps to" not in own.task.study
    assert sync(one.store, find_pools([one.plan.pool])).added == 0


RECOMMEND = """
import sys
from lrensemble.cli.main import main
sys.exit(main(["recommend", *sys.argv[1:]]))
"""


def command(folder: Path, storage: str, trials: int, *more: str) -> list[str]:
    config = folder / "config.yaml"
    if not config.exists():
        config.write_text(json.dumps(tiny_config(control=False)))
    return [
        *[str(config), "--pool", str(folder / "pool"), "--storage", storage, "--trials", str(trials)],
        *["--finalists", "1", "--seeds", "2", "--devices", "cpu", "--format", "json", *more],
    ]


def check_processes(folder: Path, storage: str, count: int = 2) -> str:
    """They share one pool and one storage: nothing is trained twice, all come to the same answer. What they said."""
    arguments = [sys.executable, "-c", RECOMMEND, *command(folder, storage, 4)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(arguments, **pipes) for _ in range(count)]
    outputs = [process.communicate() for process in processes]
    assert not [err[-2000:] for process, (_, err) in zip(processes, outputs, strict=True) if process.returncode]
    said = [line.split("] ")[1].split(": ")[0] for _, err in outputs for line in err.splitlines() if "/4] " in line]
    assert len(set(said)) == 4  # both may tell of one that ended while the other looked for work
    assert "warn" not in "".join(err.lower() for _, err in outputs)
    answers = [json.loads(out) for out, _ in outputs]
    (one,) = read_tasks(open_store(storage))
    members = [m.id for m in Pool.open(folder / "pool").members]
    assert sorted(run.member for run in one.runs) == sorted(members)
    # One may end while another trains.
    assert len(members) == 4 + 2 or any(answer["best"] != answers[0]["best"] for answer in answers)
    return str(outputs)


@pytest.mark.slow
def test_two_processes_share_a_search(tmp_path):
    check_processes(tmp_path, str(tmp_path / "p.db"))


@pytest.mark.slow
@pytest.mark.postgres
def test_a_group_shares_a_search_on_postgres(tmp_path, empty_postgres):
    """With a password, which neither they say nor the pool keeps."""
    said = check_processes(tmp_path, empty_postgres.replace("lr@", "lr:s3cr3t@"), count=3)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "pool").rglob("*") if path.is_file())
    assert "s3cr3t" not in said and b"s3cr3t" not in kept


@pytest.mark.slow
def test_killed_it_goes_on(tmp_path):
    storage = str(tmp_path / "p.db")
    slow = command(tmp_path, storage, 2, "training.epochs=60")
    process = subprocess.Popen([sys.executable, "-c", RECOMMEND, *slow], stderr=subprocess.PIPE, text=True)
    while "1/2" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert main(["recommend", *slow]) == 0
    (one,) = read_tasks(open_store(storage))
    trials = optuna.load_study(study_name=one.task.study, storage=open_store(storage).storage).trials
    assert all(t.state.is_finished() for t in trials)  # also the one that was running
    assert sum(bool(t.user_attrs.get("searched")) for t in trials) == 2
    members = [t.user_attrs["member"] for t in trials]
    assert len(members) == len(set(members)) == len(Pool.open(tmp_path / "pool").members)


@pytest.mark.slow
def test_what_is_claimed_are_fresh_seeds(tmp_path):
    config = load_config(tiny_config(control=False))
    plan = make_plan(config, tmp_path / "pool")
    store = open_store(str(tmp_path / "p.db"), create=True)
    arguments = {"trials": 3, "finalists": 2, "seeds": 2, "with_defaults": True, "options": OPTIONS}
    found = recommend(plan, store, **arguments)
    assert found.seeds == (FRESH, FRESH + 1) and found.similar is None
    fresh = [m.record for m in Pool.open(plan.pool).members if m.record.spec.seed >= FRESH]
    for row in [*found.best, *found.defaults.values()]:
        accuracies = [r.metrics["val"]["accuracy"] for r in fresh if r.spec.policy == row.policy]
        assert row.n == len(accuracies) == 2 and row.accuracy == pytest.approx(np.mean(accuracies))
        assert row.sd == pytest.approx(np.std(accuracies, ddof=1))
    assert {row.policy for row in found.best} == {row.policy for row in found.tried[:2]}
    assert set(found.defaults) == {"Caffe", "PyTorch default LR", "PyTorch ImageNet example"}
    again = recommend(plan, store, **arguments)  # everything is there
    assert (again.best, again.tried, again.k0) == (found.best, found.tried, found.k0)
    # A similar task gives the first policies.
    other = make_plan(load_config(tiny_config(control=False, training={"epochs": 2, "batch_size": 64})), tmp_path / "o")
    begun = recommend(other, store, trials=1, finalists=1, seeds=2, options=OPTIONS)
    assert begun.similar == found.task
    (only,) = begun.tried
    known = {run.policy for task in read_tasks(store) if task.task == found.task for run in task.runs}
    assert only.policy in known


def test_another_optimizer_or_another_field_is_not_similar(trained, tmp_path):
    store = open_store(str(tmp_path / "p.db"), create=True)
    sync(store, find_pools([trained]))
    tasks = read_tasks(store)
    task = tasks[0].task
    assert similar(task, tasks) is None  # itself
    assert similar(task.model_copy(update={"epochs": 9}), tasks) == tasks[0]
    for change in (
        {"optimizer": task.optimizer.model_copy(update={"name": "AdamW"})},
        {"data": "moons", "model": task.model.model_copy(update={"name": "lenet"})},
    ):
        assert similar(task.model_copy(update={**change, "epochs": 9}), tasks) is None


def test_when_everything_diverges(tmp_path, monkeypatch):
    plan = make_plan(load_config(tiny_config(control=False)), tmp_path / "pool")
    hot = module.RangeTest((), {}, 1e6, 1e7, "")
    monkeypatch.setattr(module, "range_test", lambda *_, **__: hot)
    with pytest.raises(UserError, match=r"none of 3 runs is complete \(diverged\): lower the learning rates"):
        recommend(plan, open_store(str(tmp_path / "p.db"), create=True), trials=3, options=OPTIONS)


def test_a_failed_run_does_not_end_the_search(tmp_path, monkeypatch):
    """What raises in one run is recorded with its reason; the next is drawn."""
    from lrensemble.training import member as training_member

    fit, calls = training_member.fit, []

    def breaks_once(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("no luck")
        return fit(*args, **kwargs)

    monkeypatch.setattr(training_member, "fit", breaks_once)
    one = wanted(tmp_path, trials=2)
    one = Search(
        **{
            **vars(one),
            "plan": make_plan(
                one.plan.config.model_copy(update={"engine": one.plan.config.engine.model_copy(update={"stack": 1})}),
                one.plan.pool,
            ),
        }
    )
    search(one)
    states = [t.state.name for t in trials_of(one)]
    assert sorted(states) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert "no luck" in trials_of(one)[0].user_attrs["reason"]


def test_baselines_are_policies_of_the_model(trained):
    spec = Member(next((trained / "members").iterdir())).record.spec
    found = baselines(spec)
    assert found["PyTorch default LR"] == "FIX(k0=0.001)"
    assert found["Caffe"].startswith("STEP(k0=0.01")
    lenet = spec.model_copy(update={"model": spec.model.model_copy(update={"name": "lenet"})})
    assert baselines(lenet)["Caffe"] == "INV(k0=0.01, gamma=0.0001, p=0.75)"


@pytest.mark.parametrize(
    "more, words",
    [
        (["--target", "96"], "write 0.96 for 96 %"),
        (["--seeds", "1"], "--seeds: 1 is not possible: a whole number from 2"),
        (["--trials", "0"], "--trials: 0 is not possible"),
        (["--minutes", "nan"], "--minutes: nan is not possible"),
        (["--storage", "mysql://a/b"], "'mysql' is not known"),
        (["model.name=mpl"], "did you mean 'mlp'"),
    ],
)
def test_bad_input_is_one_line_and_trains_nothing(more, words, tmp_path, capsys):
    assert main(["recommend", *command(tmp_path, str(tmp_path / "p.db"), 2), *more]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1
    assert not (tmp_path / "pool").exists()


def test_the_table_for_people(tmp_path, capsys):
    arguments = command(tmp_path, str(tmp_path / "p.db"), 2)
    arguments[arguments.index("json")] = "table"
    assert main(["recommend", *arguments, "--baseline", "-v"]) == 0
    out = capsys.readouterr().out
    for words in ("policies with fresh seeds (1000 on)", "mean ± sd of 2 seeds", "n = 337 rows", "Caffe, STEP"):
        assert words in out
