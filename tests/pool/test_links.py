"""A pool from elsewhere does not reach out of itself: no name is a path, no link is written or deleted through."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Pool, UserError, evaluate, train_pool
from lrensemble.cli.main import main
from lrensemble.pool.files import write_json, write_sealed
from lrensemble.pool.gc import collect, plan_gc
from lrensemble.pool.links import delete, link_above
from lrensemble.pool.select import select_teams
from lrensemble.pool.team import is_name


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def other(trained: Path, tmp_path: Path) -> Path:
    """Another pool, which nothing may happen to."""
    return shutil.copytree(trained, tmp_path / "other")


def link_away(path: Path, to: Path) -> Path:
    """Put a link in the place of a folder."""
    if path.exists():
        shutil.rmtree(path)
    path.symlink_to(to)
    return path


# Names


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "/tmp/x", ".hidden", "..", "", "a\\b", "C:x", "a\x1b[2J", "a\nb", "x" * 151, "(random)"]
)
def test_names_that_are_no_names(pool: Pool, name: str):
    assert not is_name(name)
    [team] = select_teams(pool, ["all"])
    before = snapshot(pool.path.parent)
    with pytest.raises(UserError, match="is no name for a team"):
        pool.save_team(team.model_copy(update={"name": name}))
    with pytest.raises(UserError, match="is no name for a team"):
        evaluate(pool, [team.model_copy(update={"name": name})])
    with pytest.raises(UserError, match="has no team"):
        pool.team(name)
    assert snapshot(pool.path.parent) == before


@pytest.mark.parametrize(
    "name", ["greedy", "top-k-5-borda", "greedy-bags-10-budget-1000000000.0", "my team", "Größe [1]"]
)
def test_names_that_are_names(pool: Pool, name: str):
    [team] = select_teams(pool, ["all"])
    pool.save_team(team.model_copy(update={"name": name}))
    assert pool.team(name).name == name


@pytest.mark.parametrize("sealed", [True, False])
def test_a_team_that_calls_itself_a_path_writes_nothing(pool: Pool, sealed: bool):
    [team] = select_teams(pool, ["all"])
    data = {**team.model_dump(mode="json"), "name": "../../x"}
    (write_sealed if sealed else write_json)(pool.path / "teams" / "evil.json", data)
    before = snapshot(pool.path.parent)
    result = evaluate(pool)
    assert "is no name" in result.left_out["evil"]
    new = {pool.path / name for name in ("evaluations/all.json", "evaluation.json")}
    assert snapshot(pool.path.parent).keys() - before.keys() == new
    with pytest.raises(UserError, match=r"evil\.json: cut off or damaged \(name: .*is no name"):
        evaluate(pool, "evil")


def test_a_team_and_its_file_have_one_name(pool: Pool):
    select_teams(pool, ["all"])
    shutil.copy(pool.path / "teams" / "all.json", pool.path / "teams" / "mine.json")
    with pytest.raises(UserError, match=r"mine\.json is a copy of team all"):
        pool.team("mine")
    assert "is a copy of team all" in evaluate(pool).left_out["mine"]


# Links


def test_which_links_count(tmp_path: Path):
    real = tmp_path / "big" / "pool"
    (real / "control").mkdir(parents=True)
    (real / "pool.json").touch()
    (real / "control" / "pool.json").touch()
    pool = link_away(tmp_path / "pool", real)
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "pool.json").touch()
    link = link_away(real / "members", tmp_path / "away")  # a pool itself: it is not taken for the outer one
    assert link_above(pool / "report.html") is None  # the pool's own folder may be a link
    assert link_above(pool / "teams" / "a.json") is None  # or a folder may not be there yet
    assert link_above(pool / "members" / "0" / "record.json") == pool / "members"
    assert link_above(real / "members" / "record.json") == link
    assert link_above(link) is None
    assert link_above(link, itself=True) == link
    assert link_above(real / "control" / ".." / "members" / "x") == link
    assert link_above(pool / ".." / "x") is None
    assert link_above(tmp_path / "pool" / ".." / "pool" / "members" / "x") is not None
    shutil.rmtree(real / "control")
    link_away(real / "control", tmp_path / "away")
    assert link_above(pool / "control" / "members" / "x") == pool / "control"
    assert link_above(tmp_path / "x" / "y") is None  # in no pool: a user's own folders
    delete(pool / "control")
    assert (tmp_path / "away" / "pool.json").exists()
    with pytest.raises(UserError, match=f"{pool}/members is a link to {tmp_path}/away, and nothing is written or del"):
        delete(pool / "members" / "pool.json")


@pytest.mark.parametrize("what", ["member", "members", "control", "leftovers"])
def test_gc_deletes_nothing_through_a_link(pool: Pool, other: Path, what: str):
    member = pool.members[0].id
    (other / "members" / member / "state.pt").write_bytes(b"of the other pool")
    (other / "labels" / ".val.npy.01234567.tmp").write_bytes(b"half")
    (other / "members" / "0123456789").mkdir()
    (other / "members" / "0123456789" / "mine").touch()
    link = {
        "member": lambda: link_away(pool.path / "members" / member, other / "members" / member),
        "members": lambda: link_away(pool.path / "members", other / "members"),
        "control": lambda: link_away(pool.path / "control", other),
        "leftovers": lambda: link_away(pool.path / "labels", other / "labels"),
    }[what]()
    before = snapshot(other)
    done = collect(plan_gc(pool, 0, keep_best=0, whole_members=True))
    assert snapshot(other) == before
    assert link.is_symlink()
    assert what == "leftovers" or any(line.startswith(str(link)) for line in done.skipped)
    assert what == "members" or done.items


def test_gc_keeps_a_member_whose_record_is_a_broken_link(pool: Pool):
    member = pool.members[0]
    member.record_path.rename(pool.path / "away.json")
    member.record_path.symlink_to(pool.path / "not-there.json")
    collect(plan_gc(pool, 0, keep_best=0))
    assert (member.path / "predictions" / "val.npy").exists()


@pytest.mark.parametrize("name", ["teams", "evaluations"])
def test_nothing_is_written_through_a_folder_of_the_pool(pool: Pool, tmp_path: Path, name: str):
    select_teams(pool, ["all"])
    evaluate(pool)
    away = tmp_path / "away"
    (pool.path / name).rename(away)
    link = link_away(pool.path / name, away)
    before = snapshot(away)
    with pytest.raises(UserError, match=f"{link} is a link to {away}, and nothing is written"):
        (select_teams if name == "teams" else evaluate)(pool)
    assert snapshot(away) == before


def test_training_writes_through_no_link(pool: Pool, other: Path, config):
    """A finished member may be one (it is read), one to be trained may not."""
    first, second = pool.members[:2]
    link_away(first.path, other / "members" / first.id)
    before = snapshot(other)
    assert len(train_pool(config, pool.path, workers=1, threads=1, devices="cpu").complete) == 4
    planned = Pool.open(other).find(second.id)
    planned.write_record(planned.record.model_copy(update={"status": "planned"}))
    link_away(second.path, planned.path)
    before = snapshot(other)
    with pytest.raises(UserError, match=f"{second.path} is a link"):
        train_pool(config, pool.path, workers=1, threads=1, devices="cpu")
    assert snapshot(other) == before
    shutil.rmtree(other)
    with pytest.raises(UserError, match="is a link to "):
        train_pool(config, pool.path, workers=1, threads=1, devices="cpu")
    assert not other.exists()


def test_own_loops_and_locks_write_through_no_link(pool: Pool, tmp_path: Path):
    def fill(model: str) -> str:
        with pool.member(model=model) as member:
            if not member.finished:
                rows = pool.task.rows
                member.predict(**{split: np.full((rows[split], 10), 0.1) for split in ("val", "test")})
        return member.id

    path = pool.path / "members" / fill("mine")
    path.rename(tmp_path / "away")
    link_away(path, tmp_path / "away")
    before = snapshot(tmp_path / "away")
    fill("mine")  # finished: there is nothing to write
    assert snapshot(tmp_path / "away") == before
    victim = tmp_path / "thesis.tex"
    victim.write_text("important")
    member = next(member for member in pool.complete if not member.path.is_symlink())
    (member.path / ".lock").symlink_to(victim)
    assert not member.is_held()
    with pytest.raises(UserError, match=r"\.lock is a link"), member.hold():
        pass
    assert victim.read_text() == "important"


def test_a_folder_of_labels_elsewhere_is_no_beginning_of_a_pool(tmp_path: Path):
    (tmp_path / "away").mkdir()
    (tmp_path / "p").mkdir()
    link_away(tmp_path / "p" / "labels", tmp_path / "away")
    with pytest.raises(UserError, match="is not a pool"):
        Pool.create(tmp_path / "p", labels={"val": [0, 1], "test": [0, 1]})
    assert not snapshot(tmp_path / "away")


def test_a_pool_whose_own_folder_is_a_link_is_like_any_other(pool: Pool, tmp_path: Path, config):
    moved = pool.path.rename(tmp_path / "big")
    pool = Pool.open(link_away(tmp_path / "link", moved))
    shutil.rmtree(pool.members[0].path)
    train_pool(config, pool.path, workers=1, threads=1, devices="cpu")
    select_teams(pool, ["all"])
    evaluate(pool)
    assert collect(plan_gc(pool, 0)).items
    assert len(Pool.open(moved).complete) == 4


# Reading


def test_a_member_behind_a_broken_link_is_named(pool: Pool, tmp_path: Path, capsys):
    member = pool.members[0]
    link_away(member.path, tmp_path / "not-mounted" / member.id)
    assert main(["ls", str(pool.path), "--format", "json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)["members"]}
    assert len(rows) == 4
    assert rows[member.id]["status"] == "damaged"
    assert "not-mounted" in rows[member.id]["reason"]
    with pytest.warns(UserWarning, match=f"left out of .*{member.id}, and no member is there: mount the disk"):
        assert main(["select", str(pool.path), "--selector", "all"]) == 0
    assert len(pool.team("all").members) == 3


@pytest.mark.parametrize("name", ["members", "teams", "control"])
def test_a_folder_behind_a_broken_link_is_not_an_empty_one(pool: Pool, tmp_path: Path, name: str):
    select_teams(pool, ["all"])
    link_away(pool.path / name, tmp_path / "not-mounted")
    with pytest.raises(UserError, match=f"{name} is a link to .*not-mounted, which is not there"):
        main_use = {"members": lambda: pool.complete, "teams": lambda: pool.teams, "control": lambda: pool.control}
        main_use[name]()


def test_a_member_elsewhere_is_read(pool: Pool, tmp_path: Path):
    promised = select_teams(pool, ["greedy"])[0].validation
    member = pool.members[0]
    member.path.rename(tmp_path / "away")
    link_away(member.path, tmp_path / "away")
    assert select_teams(pool, ["greedy"])[0].validation == promised
