"""Freeing disk: the right things in the right order, and what is left is a pool that works."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrensemble import Pool, UserError, evaluate, train_pool
from lrensemble.pool import files
from lrensemble.pool.gc import WEIGHTS, collect, plan_gc
from lrensemble.pool.select import select_teams
from lrensemble.pool.sizes import parse_size, size_text


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def ranked(pool: Pool) -> list[str]:
    """Ids, the worst on validation first."""
    found = sorted(pool.complete, key=lambda m: (m.record.metrics["val"]["accuracy"], -m.record.metrics["val"]["nll"]))
    assert found[-1].id == pool.best_single().id
    return [m.id for m in found]


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def set_status(member, status: str, **values) -> None:
    member.write_record(member.record.model_copy(update={"status": status, **values}))


def test_without_a_size_only_leftovers_go(pool: Pool):
    first, second = pool.members[:2]
    leftovers = [first.path / "state.pt", second.path / "predictions" / ".val.npy.01234567.tmp"]
    leftovers += [pool.path / "labels" / ".val.npy.01234567.tmp", pool.control.members[0].path / "state.pt"]
    for path in leftovers:
        path.write_bytes(b"12345")
    old = time.time() - 7200
    os.utime(leftovers[2], (old, old))
    young = pool.path / "teams" / ".x.json.01234567.tmp"
    young.parent.mkdir()
    young.touch()
    empty = pool.path / "members" / "0123456789"
    empty.mkdir()
    (empty / WEIGHTS).write_bytes(b"1")
    unfinished = pool.members[3]
    set_status(unfinished, "planned")
    (unfinished.path / "state.pt").write_bytes(b"what a resume needs")
    before = snapshot(pool.path)
    plan = plan_gc(pool)
    assert snapshot(pool.path) == before
    assert {item.path for item in plan.items} == {*leftovers, empty}
    assert plan.bytes == size(pool.path)
    done = collect(plan)
    assert done.items == plan.items
    assert done.bytes_after == size(pool.path)
    assert (unfinished.path / "state.pt").exists()
    assert young.exists()
    assert not empty.exists()
    assert plan_gc(pool).items == []


def test_weights_go_control_first_then_the_worst(pool: Pool):
    [team] = select_teams(pool, ["top-k"], size=2)
    free = [i for i in ranked(pool) if i not in team.members]
    everything = plan_gc(pool, 0, keep_best=0)
    assert {item.what for item in everything.items} == {"weights"}
    assert [item.member for item in everything.items] == [
        *ranked(pool.control),
        *free,
    ]
    assert not everything.fits
    # Just enough: one byte over needs one more.
    one = everything.items[0].bytes
    assert len(plan_gc(pool, everything.bytes - one, keep_best=0).items) == 1
    assert len(plan_gc(pool, everything.bytes - one - 1, keep_best=0).items) == 2
    assert plan_gc(pool, everything.bytes).items == []


def test_after_it_the_pool_works_and_says_where_the_weights_are(pool: Pool, config):
    select_teams(pool, ["top-k"], size=1)
    promised = evaluate(pool).to_dict()
    predictions = np.asarray(pool.predictions("test"))
    done = collect(plan_gc(pool, 0))
    assert 0 <= done.bytes_after - size(pool.path) < 1000  # the records are shorter by the weights' hashes
    again = Pool.open(pool.path)
    assert len(again.complete) == 4
    worst = again.find(ranked(again)[0])
    with pytest.raises(UserError, match=rf"{WEIGHTS} was deleted by lrensemble gc on 20\d\d-\d\d-\d\d to free disk"):
        worst.weights()
    assert WEIGHTS not in worst.record.files
    assert again.best_single().weights()
    np.testing.assert_array_equal(np.asarray(again.predictions("test")), predictions)
    assert evaluate(again).to_dict() == promised
    before = snapshot(again.path / "members")
    train_pool(config, again.path, workers=1, threads=1)  # nothing is trained again
    assert snapshot(again.path / "members") == before
    assert plan_gc(again, 0).items == []


def test_what_stays_whole(pool: Pool):
    [team] = select_teams(pool, ["greedy"])
    best = ranked(pool)[::-1]
    ours = {m.id for m in pool.members}

    def chosen(**options) -> set[str]:
        return {item.member for item in plan_gc(pool, 0, **options).items} & ours

    assert chosen() == ours - set(team.members) - {best[0]}
    assert chosen(keep_best=0) == ours - set(team.members)
    assert chosen(keep_best=3) == {best[3]} - set(team.members)
    assert chosen(keep_best=99) == set()
    assert chosen(keep_teams=False, keep_best=2) == set(best[2:])
    with pytest.raises(UserError, match="keep-best = -1 is not possible"):
        plan_gc(pool, 0, keep_best=-1)


def test_whole_members_go_last_and_only_when_asked_for(pool: Pool):
    worst = ranked(pool)
    failed = pool.find(worst[1])
    set_status(failed, "failed", reason="out of memory", metrics={})
    plan = plan_gc(pool, 0, whole_members=True, keep_teams=False)
    kinds = [item.what for item in plan.items]
    assert kinds == sorted(kinds, key=["leftover", "weights", "failed", "member"].index)
    assert [item.member for item in plan.items if item.what == "failed"] == [failed.id]
    gone = [item.member for item in plan.items if item.what == "member"]
    assert gone == [worst[0], worst[2]]
    assert not set(gone) & {item.member for item in plan.items if item.what == "weights"}  # they go with the member
    done = collect(plan)
    assert 0 <= done.bytes_after - size(pool.path) < 1000
    assert [m.id for m in Pool.open(pool.path).members] == [worst[3]]
    assert len(pool.control.complete) == 4
    select_teams(pool, ["all"])
    assert plan_gc(pool, 0, keep_best=0, whole_members=True).items == []  # a team's member goes in no case
    assert evaluate(pool).scores


def test_a_member_in_training_is_never_touched(pool: Pool):
    member = pool.find(ranked(pool)[0])
    (member.path / "state.pt").write_bytes(b"1")
    plan = plan_gc(pool, 0)
    before = snapshot(member.path)
    with member.hold():
        assert member.id not in {item.member for item in plan_gc(pool, 0).items}
        assert any(member.id in line for line in plan_gc(pool, 0).skipped)
        done = collect(plan)  # it was free when the plan was made
        assert done.skipped == 2 * [f"member {member.id}: a process is training it"]
    assert snapshot(member.path) == before
    assert member.id not in {item.member for item in done.items}


def test_a_member_that_has_changed_since_stays(pool: Pool):
    member = pool.find(ranked(pool)[0])
    plan = plan_gc(pool, 0)
    set_status(member, "planned")
    done = collect(plan)
    assert done.skipped == [f"member {member.id}: it is planned now"]
    assert (member.path / WEIGHTS).exists()


def test_damaged_records_and_teams(pool: Pool):
    select_teams(pool, ["all"])
    member = pool.members[0]
    member.record_path.write_text("{")
    plan = plan_gc(pool, 0, keep_teams=False)
    assert member.id not in {item.member for item in plan.items}
    assert plan.skipped == [f"{member.path}: its record cannot be read"]
    (pool.path / "teams" / "all.json").write_text("{")
    with pytest.raises(UserError, match=r"all.json: cut off or damaged"):  # it might have named members to keep
        plan_gc(pool, 0)


def test_killed_between_record_and_file(pool: Pool, monkeypatch):
    plan = plan_gc(pool, 0)
    item = plan.items[-1]

    def killed(self, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(type(plan)(plan.pool, plan.bytes, plan.limit, [item], []))
    (again,) = plan_gc(pool).items
    assert (again.what, again.path) == ("leftover", item.path)
    collect(plan_gc(pool))
    assert not item.path.exists()


def test_killed_while_a_folder_goes(pool: Pool, monkeypatch):
    plan = plan_gc(pool, 0, whole_members=True)
    item = next(item for item in plan.items if item.what == "member")

    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(type(plan)(plan.pool, plan.bytes, plan.limit, [item], []))
    assert item.member not in {m.id for m in Pool.open(pool.path).members}
    assert [i.path for i in plan_gc(pool).items] == [item.path]


def test_a_full_disk_is_where_it_is_needed(pool: Pool, monkeypatch):
    """The record does not fit until the weights are gone."""
    plan = plan_gc(pool, 0)
    write = files.write_atomic
    paths = [item.path for item in plan.items]

    def full(path, *arguments, **options):
        with files.clear_disk_errors(path):
            if (path.parent / WEIGHTS).exists():
                raise OSError(errno.ENOSPC, "no space")
        write(path, *arguments, **options)

    monkeypatch.setattr(files, "write_atomic", full)
    assert len(collect(plan).items) == len(paths)
    assert not any(path.exists() for path in paths)
    assert plan_gc(pool, 0).items == []


@given(st.integers(0, 10**15))
def test_sizes_come_back(count):
    text = size_text(count)
    assert abs(parse_size(text) - count) <= 0.05 * 1000 ** max(0, "BkMGT".index(text.split()[1][0])) + 1


@pytest.mark.parametrize(
    ("text", "count"),
    [("2GB", 2 * 10**9), ("1.5 TB", 1.5e12), ("500mb", 5e8), ("1GiB", 2**30), ("0", 0), ("7B", 7), ("0 kB", 0)],
)
def test_sizes(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "2", "GB", "-1GB", "2 gigabytes", "1e9B", "nan", "2PB"])
def test_what_is_no_size(text):
    with pytest.raises(UserError, match="write for example 2GB"):
        parse_size(text)
