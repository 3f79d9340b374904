"""One at a time, with flock and, where a file system has none, with leases."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import Timeout

from lrensemble import Pool, UserError, train_pool
from lrensemble.pool import Member, Named, lease, locks
from lrensemble.pool.lease import Lease, LeaseLost
from lrensemble.pool.locks import FORCED, alone, is_held, why_leases
from tests.conftest import PATIENCE
from tests.training.test_runner import contents


@pytest.fixture
def no_flock(monkeypatch):
    """A file system without flock."""
    refuse_flock(monkeypatch, errno.ENOLCK)


def refuse_flock(monkeypatch, code):
    def refuse(file, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "_PROBED", {})
    monkeypatch.setattr(lease, "POLL", 0.02)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lease, "POLL", 0.02)
    monkeypatch.setattr(lease, "HEARTBEAT", 0.1)
    monkeypatch.setattr(lease, "EXPIRY", 1.0)


def test_a_file_system_with_locks_has_no_leases(tmp_path):
    assert why_leases(tmp_path) == ""
    with alone(tmp_path / "x"):
        assert [path.name for path in tmp_path.iterdir()] == ["x"]
        assert is_held(tmp_path / "x")
    assert not list(tmp_path.iterdir()) and not is_held(tmp_path / "x")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_flock_it_is_one_at_a_time_too(tmp_path, monkeypatch, code):
    refuse_flock(monkeypatch, code)
    path = tmp_path / "x"
    assert "has no locks" in why_leases(tmp_path)
    with alone(path):
        assert is_held(path)
        with pytest.raises(Timeout), alone(path, timeout=0):
            pass
    assert not is_held(path) and not list(tmp_path.iterdir())


def test_of_many_one_is_inside(tmp_path, no_flock):
    inside, most, turns = [], [], []

    def work() -> None:
        with alone(tmp_path / "x"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()
            turns.append(1)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(turns) == 12 and max(most) == 1
    assert not list(tmp_path.iterdir())


HOLD = """
import sys, time
from pathlib import Path
from lrensemble.pool import lease
lease.HEARTBEAT, lease.EXPIRY = 0.1, 1.0
assert lease.Lease(Path(sys.argv[1])).acquire(0)
print("held", flush=True)
time.sleep(600)
"""


def test_a_lease_lasts_while_its_process_does(tmp_path, quick):
    path = tmp_path / "x.lease"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert not Lease(path).acquire(1.5)  # it is older than `EXPIRY`, and touched all the time
    finally:
        holder.kill()
        holder.wait()
    assert path.is_dir()
    heirs = [Lease(path), Lease(path)]
    began, won = time.monotonic(), []
    threads = [threading.Thread(target=lambda heir=heir: won.append(heir.acquire(3.0))) for heir in heirs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(won) == [False, True] and time.monotonic() - began >= 1.0
    for heir in heirs:
        heir.release()
    assert not list(tmp_path.iterdir())


def test_who_stopped_and_was_replaced_leaves_the_new_one_alone(tmp_path, quick, monkeypatch):
    path = tmp_path / "x.lease"
    monkeypatch.setattr(lease, "HEARTBEAT", 3600)  # a machine that hangs
    old, new = Lease(path), Lease(path)
    assert old.acquire(0) and new.acquire()
    with pytest.raises(LeaseLost, match="taken over by another process"):
        old.keep()
    old.release()
    assert [file.name for file in path.iterdir()] == [new._name]
    assert not Lease(path).acquire(0)
    new.keep()
    new.release()
    assert Lease(path).acquire(0)


def take_over(path: Path) -> Lease:
    """Of another process, as if the one that holds it had been asleep."""
    thief = Lease(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "EXPIRY", 0.0)
        assert thief._take_over() or thief._take_over()  # seen, seen again
    return thief


def test_who_was_replaced_writes_nothing_more(pool, no_flock):
    labels = {split: np.eye(10)[pool.labels(split)] for split in ("val", "test")}
    with pytest.raises(LeaseLost, match="nothing more was written"), pool.member(model="mlp", seed=1) as member:
        member.log(step=1, val_accuracy=0.5)
        member.predict(**labels)
        thief = take_over(pool.path / "members" / member.id / ".lock.lease")
    assert Member(pool.path / "members" / member.id).record.status == "planned"
    assert [path.name for path in (pool.path / "members" / member.id).iterdir() if path.is_file()] == ["record.json"]
    thief.release()
    with pool.member(model="mlp", seed=1) as member:
        member.predict(**labels)
    assert Member(pool.path / "members" / member.id).record.status == "complete"


STOLEN: dict[str, threading.Timer] = {}


def steal(spec, history) -> None:
    """A judge that stops nobody: while it looks at a run, another process takes it over, and gives it up later."""
    for path in Path.cwd().glob("p/members/*/.lock.lease"):
        if not STOLEN:
            STOLEN[path.parent.name] = threading.Timer(1.0, take_over(path).release)
            STOLEN[path.parent.name].start()


def test_a_run_that_was_taken_over_is_the_others(config, trained, tmp_path, no_flock, monkeypatch):
    monkeypatch.chdir(tmp_path)
    STOLEN.clear()
    judge = Named(name=f"{__name__}:steal")
    with pytest.warns(UserWarning, match="taken over by another process") as told:
        train_pool(config, tmp_path / "p", workers=1, threads=1, control=False, judges=[judge])
    [stolen] = STOLEN
    assert [stolen in str(w.message) for w in told if "taken over by another" in str(w.message)] == [True]
    assert not STOLEN[stolen].is_alive()  # it waited until the other had given it up
    assert contents(tmp_path / "p") == {k: v for k, v in contents(trained).items() if not k.startswith("control")}
    assert not list((tmp_path / "p").rglob("*.lease*"))


def test_the_clock_of_the_server_says_whether_a_lease_is_held(tmp_path, no_flock, monkeypatch):
    now = time.time()
    with alone(tmp_path / ".lock"):
        monkeypatch.setattr(time, "time", lambda: now + 3600)  # this machine's is an hour fast
        assert is_held(tmp_path / ".lock")
    assert not is_held(tmp_path / ".lock")


def test_a_lease_behind_a_link_is_refused(pool: Pool, tmp_path, no_flock):
    member = pool.members[0]
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "thesis").touch()
    (member.path / ".lock.lease").symlink_to(tmp_path / "away")
    with pytest.raises(UserError, match=r"\.lease is a link"), member.hold():
        pass
    assert [file.name for file in (tmp_path / "away").iterdir()] == ["thesis"]


def test_a_folder_that_is_gone_or_read_only_is_said(tmp_path, no_flock, monkeypatch):
    monkeypatch.setenv(FORCED, "1")
    with pytest.raises(UserError, match="its folder is gone"), alone(tmp_path / "none" / "x"):
        pass
    monkeypatch.setattr(Path, "mkdir", lambda *a, **k: (_ for _ in ()).throw(PermissionError(errno.EROFS, "read-only")))
    with pytest.raises(UserError, match="cannot be written"), alone(tmp_path / "x"):
        pass


def test_a_pool_without_flock_is_trained_and_that_is_said(config, trained, tmp_path, no_flock):
    with pytest.warns(UserWarning, match=r"has no locks .*taken by leases.*free after 120 s"):
        train_pool(config, tmp_path / "p", workers=1, threads=1, control=False)
    expected = {name: data for name, data in contents(trained).items() if not name.startswith("control")}
    assert contents(tmp_path / "p") == expected
    assert not list((tmp_path / "p").rglob("*.lease*"))
