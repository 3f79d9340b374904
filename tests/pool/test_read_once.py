"""A command reads every record once and hashes every file once, and never goes on with one that has changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Pool, evaluate, select_teams
from lrensemble.cli.main import main
from lrensemble.errors import UserError
from lrensemble.pool import Member
from lrensemble.pool import files as files_room
from lrensemble.pool import member as member_room
from lrensemble.pool.files import Once, read_model, write_sealed
from lrensemble.report.page import info

COMMANDS = ["evaluate", "report", "select", "diversity", "export", "ls", "gc", "show"]


def words_of(command: str, pool: Pool, folder: Path) -> list[str]:
    more = {
        "select": ["--selector", "greedy", "top-k", "all"],
        "report": ["-o", str(folder / "page.html")],
        "export": ["greedy", "-o", str(folder / "out"), "--as", "safetensors", "--no-benchmark"],
        "show": [pool.members[0].id],
    }
    return [command, str(pool.path), *more.get(command, [])]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Counter[Path]]:
    """How often each file is hashed, and each record read, from now on."""
    counts: dict[str, Counter[Path]] = {"hashes": Counter(), "records": Counter()}
    file_hash, read_bytes = member_room.file_hash, files_room.read_bytes

    def counting_hash(path: Path) -> str:
        counts["hashes"][path] += 1
        return file_hash(path)

    def counting_read(path: Path, *most: int) -> bytes:
        if path.name == "record.json":
            counts["records"][path] += 1
        return read_bytes(path, *most)

    monkeypatch.setattr(member_room, "file_hash", counting_hash)
    monkeypatch.setattr(files_room, "read_bytes", counting_read)
    return counts


@pytest.mark.parametrize("evaluated", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_record_and_every_file_is_read_once(pool: Pool, tmp_path: Path, counted, command: str, evaluated: bool):
    select_teams(pool, ["greedy", "top-k", "random", "all", "best-single"])
    if evaluated:
        evaluate(pool)
    words = words_of(command, pool, tmp_path)
    counted["hashes"].clear()
    counted["records"].clear()
    assert main(words) == 0
    assert pool.control
    ours, control = ({m.path for m in p.members} for p in (pool, pool.control))
    assert set(counted["hashes"].values()) <= {1}
    assert set(counted["records"].values()) == {1}
    records = {path.parent for path in counted["records"]}
    assert records == (ours | control if command in ("evaluate", "report", "gc") else {*ours} & records)
    hashed = {str(path.relative_to(pool.path)).split("/")[0] for path in counted["hashes"]}
    # What `evaluate` has found is not found again: nothing opens the predictions of the control.
    both = command == "evaluate" or (command == "report" and not evaluated)
    assert hashed == (set() if command in ("ls", "gc") else {"members", "control"} if both else {"members"})


def numbers(report: info.Report) -> dict:
    return json.loads(files_room.json_text({**report.to_dict(), "created": ""}))


def test_a_report_of_what_is_stored_has_the_same_numbers(pool: Pool):
    select_teams(pool, ["greedy", "top-k", "all", "best-single"])
    computed = numbers(info.report_info(Pool.open(pool.path)))
    evaluate(pool)
    assert numbers(info.report_info(Pool.open(pool.path))) == computed


def again(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a report evaluates again."""
    calls: list[Pool] = []
    with monkeypatch.context() as patch:
        patch.setattr(info, "evaluate", lambda *a, **k: calls.append(a[0]) or evaluate(*a, **k))
        info.report_info(Pool.open(pool.path))
    return bool(calls)


def new_team(pool: Pool) -> None:
    select_teams(pool, ["top-k"], size=2)


def other_team(pool: Pool) -> None:
    team = pool.team("all")
    pool.save_team(
        team.model_copy(update={"members": dict.fromkeys(team.members, 1 / len(team.members)) | {}, "vote": "logit"})
    )


def no_control(pool: Pool) -> None:
    shutil.rmtree(pool.path / "control")


def fewer_controls(pool: Pool) -> None:
    assert pool.control
    shutil.rmtree(pool.control.members[0].path)


def other_cost(pool: Pool) -> None:
    member = pool.members[0]
    record = member.record
    member.write_record(record.model_copy(update={"costs": {**record.costs, "flops": 1}}))


def a_member_less(pool: Pool) -> None:
    for name in ("all", "greedy"):
        (pool.path / "teams" / f"{name}.json").unlink()
    shutil.rmtree(next(m.path for m in pool.members if m.id != pool.best_single().id))


def damaged(pool: Pool) -> None:
    path = pool.path / "evaluation.json"
    path.write_text(path.read_text().replace('"accuracy": 0', '"accuracy": 1', 1))


def unknown_numbers(pool: Pool) -> None:
    path = pool.path / "evaluation.json"
    data = json.loads(path.read_text())
    data["evaluation"]["scores"][0]["accuracy"] = None
    write_sealed(path, {key: value for key, value in data.items() if key != "sha256"})


@pytest.mark.parametrize(
    "change",
    [new_team, other_team, no_control, fewer_controls, other_cost, a_member_less, damaged, unknown_numbers],
    ids=lambda change: change.__name__,
)
@pytest.mark.filterwarnings("ignore:left out of")
def test_an_evaluation_of_something_else_is_not_reported(pool: Pool, monkeypatch, change):
    select_teams(pool, ["greedy", "all", "best-single"])
    assert again(pool, monkeypatch)
    evaluate(pool, "all")
    assert again(pool, monkeypatch)  # of one team: p values and cautions are others
    evaluate(pool)
    assert not again(pool, monkeypatch)
    change(pool)
    assert again(pool, monkeypatch)


def test_the_same_team_selected_again_is_the_same(pool: Pool, monkeypatch):
    select_teams(pool, ["all"])
    evaluate(pool)
    team = pool.team("all")
    pool.save_team(team.model_copy(update={"created": "2000-01-01T00:00:00+00:00"}))
    assert not again(pool, monkeypatch)


def test_a_record_that_was_written_meanwhile_is_seen(pool: Pool):
    before = pool.members[0]
    assert pool.members[0] is before
    assert pool.find(before.id) is before
    assert pool.member_of(before.record.spec) is before
    other = Member(before.path)
    other.write_record(other.record.model_copy(update={"status": "stopped", "reason": "by hand"}))
    assert before.record.status == "complete"  # as it was when it was asked for
    assert pool.find(before.id).record.status == "stopped"
    assert before.id not in {member.id for member in pool.complete}
    shutil.rmtree(before.path)
    assert pool.member_of(before.record.spec).status == "damaged"


def test_a_control_that_was_made_meanwhile_is_seen(pool: Pool):
    path = pool.path / "control"
    path.rename(pool.path.parent / "away")
    assert pool.control is None
    (pool.path.parent / "away").rename(path)
    assert pool.control is pool.control is not None


@pytest.mark.parametrize("use", ["labels", "checked", "opened"])
def test_a_file_that_changes_during_a_command_is_not_used(pool: Pool, use: str):
    member = pool.members[0]
    labels = use == "labels"
    path = pool.path / "labels" / "val.npy" if labels else member.path / "predictions" / "val.npy"
    predictions = pool.predictions("val")
    pool.labels("val")
    array = np.load(path)
    np.save(path, array[::-1])
    reads = {
        "labels": (lambda: pool.labels("val"), "not the labels"),
        "checked": (lambda: member.check_file("predictions/val.npy"), "or other content"),
        "opened": (lambda: np.asarray(predictions), "was written again meanwhile"),
    }
    with pytest.raises(UserError, match=reads[use][1]):
        reads[use][0]()


def test_once(tmp_path: Path):
    once, path = Once(), tmp_path / "x"
    calls = []

    def read() -> int:
        calls.append(path.exists())
        return len(calls)

    assert [once(path, read), once(path, read)] == [1, 2]  # what is not there may come
    path.write_text("a")
    assert [once(path, read), once(path, read)] == [3, 3]
    path.write_text("ab")
    assert [once(path, read), once(path, read)] == [4, 4]
    with pytest.raises(ZeroDivisionError):
        once(tmp_path, lambda: 1 // 0)
    assert once(tmp_path, lambda: 5) == 5  # an error is not kept


@pytest.mark.parametrize("command", ["ls", "gc", "show"])
def test_looking_at_a_pool_imports_little(pool: Pool, tmp_path: Path, command: str):
    select_teams(pool, ["greedy", "all"])
    code = (
        "import sys\n"
        "from lrensemble.cli.main import main\n"
        f"assert main({words_of(command, pool, tmp_path)!r}) == 0\n"
        "heavy = {'torch', 'sklearn', 'scipy', 'pandas', 'numba', 'joblib', 'matplotlib', 'jinja2', 'optuna'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_control_stays_on_disk_where_it_is_large(pool: Pool, monkeypatch):
    from lrensemble.evaluation import again

    select_teams(pool, ["greedy", "top-k", "all"])
    before = evaluate(pool, save=False)
    monkeypatch.setattr(again, "MEMORY", 1)
    monkeypatch.setattr(
        "lrensemble.pool.Predictions.__array__", lambda *_, **__: pytest.fail("all predictions in memory")
    )
    after = evaluate(pool, save=False)
    assert after.control_note == before.control_note
    for old, new in zip(before.against("seeds-only"), after.against("seeds-only"), strict=True):
        assert (old.name, old.accuracy_gain) == (new.name, new.accuracy_gain)
        assert old.baseline_nll == pytest.approx(new.baseline_nll, rel=1e-6)


def test_a_stored_evaluation_is_the_one_that_was_found(pool: Pool):
    from lrensemble.evaluation.stored import StoredAll

    select_teams(pool, ["greedy", "all"])
    found = evaluate(pool)
    assert read_model(StoredAll, pool.path / "evaluation.json").evaluation == found
