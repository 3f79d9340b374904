"""Pools: reading, refusing what does not belong together, and opening whatever is damaged."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import Timeout

from lrensemble import Pool, UserError, load_config, train_pool
from lrensemble.metrics import summary
from lrensemble.pool import Member, Predictions
from lrensemble.pool.files import write_array, write_sealed
from lrensemble.pool.select import select_teams
from lrensemble.selection import Ballots
from tests.conftest import PATIENCE, tiny_config


def test_what_training_left(pool: Pool):
    assert len(pool.members) == len(pool.complete) == 4
    assert [m.id for m in pool.members] == sorted(m.id for m in pool.members)
    for split, rows in (("val", 337), ("test", 450)):
        predictions = pool.predictions(split)
        assert predictions.shape == (4, rows, 10)
        assert isinstance(predictions[0], np.memmap)
        stacked = np.asarray(predictions)
        assert stacked.dtype == np.float32
        np.testing.assert_allclose(stacked.sum(-1), 1, atol=1e-5)
        assert pool.labels(split).shape == (rows,)
    for member, prediction in zip(pool.complete, pool.predictions("val"), strict=True):
        assert member.record.metrics["val"] == pytest.approx(summary(prediction, pool.labels("val")))
        assert len(member.history()) == 4
        assert sum(w.numel() for w in member.weights().values()) == member.record.costs["parameters"]


def test_no_number_of_the_test_split_is_in_what_selection_reads(pool: Pool):
    for member in pool.members:
        assert set(member.record.metrics) == {"train", "val"}


def test_member_by_prefix(pool: Pool):
    first = pool.members[0]
    assert pool.find(first.id[:6]).id == first.id
    with pytest.raises(UserError, match="is not in the pool"):
        pool.find("zzz")
    with pytest.raises(UserError, match="is ambiguous"):
        pool.find("")


def test_unknown_split(pool: Pool):
    with pytest.raises(UserError, match="'tset': did you mean 'test'"):
        pool.predictions("tset")


@pytest.mark.parametrize("name", ["record.json", "predictions/val.npy", "weights.safetensors"])
def test_cut_off_files(pool: Pool, name: str):
    member = pool.members[1]
    path = member.path / name
    path.write_bytes(path.read_bytes()[:-40])
    again = Pool.open(pool.path)  # it still opens
    assert [m.status for m in again.members].count("complete") == (3 if name == "record.json" else 4)
    message = f"{path}.*cut off or damaged.*delete the folder"
    if name == "record.json":
        with pytest.warns(UserWarning, match=message):
            assert len(again.predictions("val")) == 3
    else:
        with pytest.raises(UserError, match=message):
            again.members[1].weights() if name == "weights.safetensors" else again.predictions("val")


def test_changed_predictions_are_noticed(pool: Pool):
    first, second = (m.path / "predictions" / "val.npy" for m in pool.members[:2])
    shutil.copy(first, second)  # right shape, size and header
    with pytest.raises(UserError, match=f"{second}.*other content"):
        pool.predictions("val")


def test_members_of_other_rows_are_refused(pool: Pool, tmp_path: Path):
    other_rows = load_config(tiny_config(policies=["FIX(0.1)"], control=False), ["data.split_seed=5"])
    other = train_pool(other_rows, tmp_path / "other", workers=1, threads=1, devices="cpu")
    foreign = shutil.copytree(other.members[0].path, pool.path / "members" / other.members[0].id)
    with pytest.warns(UserWarning, match=f"{foreign}.*other data or another order of rows"):
        assert len(pool.predictions("val")) == 4
    with pytest.raises(UserError, match="is a pool for other data"):
        train_pool(other_rows, pool.path, workers=1)


def test_other_labels_are_refused(pool: Pool):
    labels = pool.labels("val")
    write_array(pool.path / "labels" / "val.npy", labels[::-1].copy())
    with pytest.raises(UserError, match="not the labels that the pool was made with"):
        pool.labels("val")


def test_other_class_count_is_refused(pool: Pool):

    path = pool.members[0].path / "predictions" / "val.npy"
    with pytest.raises(UserError, match="but the pool has 337 rows of 11 classes"):
        Predictions([path], (337, 11))


def test_what_is_no_pool(tmp_path: Path, trained: Path):
    with pytest.raises(UserError, match="it does not exist"):
        Pool.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no pool.json.*; pools in it are .*tiny"):
        Pool.open(trained.parent)
    (tmp_path / "pool.json").write_text('{"format": 1, "na')
    with pytest.raises(UserError, match="cut off or damaged"):
        Pool.open(tmp_path)


def test_newer_format(pool: Pool):
    path = pool.path / "pool.json"
    write_sealed(path, json.loads(path.read_text()) | {"format": 99})
    with pytest.raises(UserError, match=r"newer lrensemble \(format 99"):
        Pool.open(pool.path)


def test_a_folder_with_other_things_is_not_made_a_pool(tmp_path: Path, config):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(UserError, match="is not a pool"):
        train_pool(config, tmp_path, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_running_is_whoever_holds_the_lock(pool: Pool):
    member = pool.members[0]
    member.write_record(member.record.model_copy(update={"status": "planned"}))
    assert member.status == "planned"
    with member.hold():
        assert Pool.open(pool.path).members[0].status == "running"
    assert Pool.open(pool.path).members[0].status == "planned"


def test_empty_pool_and_all_diverged(pool: Pool):
    for member in pool.members:
        member.write_record(member.record.model_copy(update={"status": "diverged", "reason": "NaN"}))
    with pytest.raises(UserError, match=r"no complete member \(4 diverged: lower the learning rates\)"):
        select_teams(pool)
    shutil.rmtree(pool.path / "members")
    with pytest.raises(UserError, match="it is empty"):
        select_teams(pool)


def test_teams_are_written_with_what_they_promise(pool: Pool):
    teams = select_teams(pool, ["greedy", "top-k"], size=2, objective="accuracy")
    assert [t.name for t in teams] == ["greedy-2-accuracy", "top-k-2-accuracy"]
    for team in teams:
        read = pool.team(team.name)
        assert read == team
        assert sum(read.members.values()) == pytest.approx(1)
        vote = sum(
            weight * np.load(pool.path / "members" / i / "predictions" / "val.npy").astype(float)
            for i, weight in read.members.items()
        )
        assert read.validation == pytest.approx(summary(vote, pool.labels("val")))
    with pytest.raises(UserError, match="did you mean 'greedy-2-accuracy'"):
        pool.team("greedy-accuracy")


def test_selection_works_without_any_test_file(pool: Pool):
    for path in pool.path.rglob("test.npy"):
        path.unlink()
    assert len(select_teams(pool)) == 6


def test_damaged_team(pool: Pool):
    select_teams(pool, ["all"])
    (pool.path / "teams" / "all.json").write_text("{")
    with pytest.raises(UserError, match=r"all.json: cut off or damaged.*select again"):
        pool.team("all")


def test_brute_force_is_left_out_of_the_default_where_it_is_too_much(pool: Pool, monkeypatch):
    from lrensemble.selection import BruteForce

    monkeypatch.setattr(BruteForce, "is_too_much", lambda self, total: True)
    assert [team.selector for team in select_teams(pool)] == ["best-single", "all", "top-k", "random", "greedy"]
    with pytest.raises(UserError, match="brute force would try 15 teams"):
        select_teams(pool, ["brute-force"])


def test_killed_while_planning(pool: Pool, config):
    """A folder without a record (killed between the two) is no member yet; the next run plans it."""
    (pool.members[0].record_path).unlink()
    assert len(Pool.open(pool.path).complete) == 3
    train_pool(config, pool.path, workers=1, threads=1)
    assert len(pool.complete) == 4


def test_a_copied_member_is_left_out(pool: Pool):
    """Or it would vote twice."""
    first = pool.members[0]
    copy = shutil.copytree(first.path, first.path.with_name("copy of it"))
    with pytest.warns(UserWarning, match=f"{copy} is a copy of member {first.id}"):
        assert len(pool.predictions("val")) == 4


def test_a_users_folder_called_labels_is_not_overwritten(tmp_path: Path, config):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "val.npy").write_text("mine")
    (tmp_path / "image.png").write_text("mine too")
    with pytest.raises(UserError, match="is not a pool"):
        train_pool(config, tmp_path, workers=1)
    assert (tmp_path / "labels" / "val.npy").read_text() == "mine"


def test_killed_while_creating(tmp_path: Path, config, trained: Path):
    path = tmp_path / "p"
    shutil.copytree(trained / "labels", path / "labels")
    (path / "labels" / ".test.npy.0123abcd.tmp").write_text("half")
    assert len(train_pool(config, path, workers=1, threads=1).complete) == 4


def test_nothing_is_written_when_a_selector_fails(pool: Pool):
    with pytest.raises(UserError, match="size 99"):
        select_teams(pool, ["all", "top-k"], size=99)
    assert pool.teams == []
    with pytest.raises(UserError, match="no selector is named"):
        select_teams(pool, [])


def test_brute_force_that_takes_minutes_is_not_in_the_default(pool: Pool, monkeypatch):
    from lrensemble.pool import select

    monkeypatch.setattr(select, "BRUTE_FORCE_WORK", 15 * 337)
    assert "brute-force" in [team.selector for team in select_teams(pool)]
    assert "brute-force" not in [team.selector for team in select_teams(pool, objective="accuracy")]


def test_a_left_over_lock_in_a_read_only_folder_is_not_running(pool: Pool, monkeypatch):
    from lrensemble.pool import locks as module

    member = pool.members[0]
    member.write_record(member.record.model_copy(update={"status": "planned"}))
    (member.path / ".lock").touch()

    def refuse(self, *args, **kwargs):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(module.FileLock, "acquire", refuse)
    assert member.status == "planned"


def test_planning_leaves_no_lock(config, tmp_path: Path, trained: Path):
    pool = Pool.open(shutil.copytree(trained, tmp_path / "p", ignore=shutil.ignore_patterns("members", "control")))
    pool.plan(config.specs())
    assert len(pool.members) == 4
    assert not list(pool.path.rglob(".lock"))


def test_one_at_a_time_also_after_somebody_gave_up(pool: Pool):
    """A holds, B waits; A ends without finishing; while B works, C must not get in."""
    path = pool.members[0].path
    Member(path).write_record(Member(path).record.model_copy(update={"status": "planned"}))
    inside, done = threading.Event(), threading.Event()

    def b() -> None:
        with Member(path).hold():
            inside.set()
            done.wait(PATIENCE)

    waiting = threading.Thread(target=b)
    with Member(path).hold():
        waiting.start()
        time.sleep(0.5)
    assert inside.wait(PATIENCE)
    with pytest.raises(Timeout), Member(path).hold(wait=False):
        pass
    done.set()
    waiting.join()
    with Member(path).hold(wait=False):
        pass


@pytest.mark.parametrize("better", [0, 1])
def test_of_two_with_the_best_accuracy_the_lower_nll_is_the_one_to_beat(tmp_path: Path, better: int):
    y = np.array([0, 1, 0, 1])
    pool = Pool.create(tmp_path / "p", labels={"val": y, "test": y})
    for i in range(2):
        sure = 0.9 if i == better else 0.6
        with pool.member(model=f"m{i}") as member:
            member.predict(**{split: np.where(np.eye(2)[y] == 1, sure, 1 - sure) for split in ("val", "test")})
    assert pool.best_single().record.spec.model.name == f"m{better}"
    assert pool.best_single(pool.complete[::-1]).record.spec.model.name == f"m{better}"


def test_rows_of_stored_predictions_are_those_of_the_array(tmp_path):
    P = np.random.default_rng(0).dirichlet(np.ones(3), (2, 40)).astype(np.float32)
    P[0, 3] = [-0.0, 0.5, 0.5]  # of an older version: it means nothing where all choices exist
    for i, p in enumerate(P):
        np.save(tmp_path / f"{i}.npy", p)
    paths = [tmp_path / "0.npy", tmp_path / "1.npy"]
    choices = np.arange(3) < np.random.default_rng(1).integers(2, 4, 40)[:, None]
    plain, masked = Predictions(paths, (40, 3)), Predictions(paths, (40, 3), choices)
    assert not np.signbit(np.asarray(plain)).any() and not np.signbit(plain[0, [3]]).any()
    np.testing.assert_array_equal(np.signbit(np.asarray(masked)), np.stack([~choices | np.signbit(p) for p in P]))
    for rows in (slice(None), slice(5, 9), [7, 3, 3], np.arange(40) % 2 == 0):
        for stored in (plain, masked):
            whole = np.asarray(stored)
            np.testing.assert_array_equal(stored[1, rows], whole[1, rows])
            np.testing.assert_array_equal(np.signbit(stored[0, rows]), np.signbit(whole[0, rows]))


def test_a_block_of_rows_reads_no_others(tmp_path, monkeypatch):
    """What a memory limit divides must not be read whole for every block."""
    paths = []
    for i in range(2):
        paths.append(tmp_path / f"{i}.npy")
        np.save(paths[-1], np.full((1000, 4), 0.25))
    stored = Predictions(paths, (1000, 4))
    seen = []
    signbit = np.signbit
    monkeypatch.setattr(np, "signbit", lambda array: seen.append(len(array)) or signbit(array))
    for _, ballots in Ballots(stored, np.zeros(1000, dtype=int), vote="logit", memory=40_000).blocks():
        assert ballots.shape[1] < 1000
    assert max(seen) < 1000


def test_a_pool_has_the_name_that_it_was_given_or_its_folders(tmp_path):
    labels = {"val": [0, 1, 1], "test": [1, 0]}
    assert Pool.create(tmp_path / "a", labels=labels, name="birds").task.name == "birds"
    made = Pool.create(tmp_path / "b", labels=labels)
    assert made.task.name == "b" and made.task.data == {"name": "b"}
