"""Files of a pool that were changed after they were written: refused by name, or the numbers are the same."""

from __future__ import annotations

import json
import random
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from lrensemble import Pool, UserError, evaluate
from lrensemble.evaluation.stored import read_evaluation
from lrensemble.pool.files import json_text, read_array, read_model, write_array, write_json, write_sealed
from lrensemble.pool.gc import plan_gc
from lrensemble.pool.record import Header, loop_spec
from lrensemble.pool.select import select_teams
from lrensemble.report.page import report_info

SEED = 20261126
KINDS = {
    "pool.json": "pool.json",
    "record": "members/*/record.json",
    "history": "members/*/history.jsonl",
    "team": "teams/*.json",
    "evaluation": "evaluations/*.json",
    "labels": "labels/*.npy",
    "predictions": "members/*/predictions/*.npy",
    "weights": "members/*/weights.safetensors",
}


# What a use of a pool says, for comparison


def _attempt(use: Callable[..., Any], *values: Any) -> Any:
    try:
        return use(*values)
    except UserError as error:
        return error


def _uses(path: Path, report: bool = False) -> dict[str, Any]:
    """What ls, show, select, evaluate, export and report read and say: results, or errors; and warnings."""

    def of_members(use: Callable[[Any], Any]) -> Callable[[], Any]:
        return lambda: {member.id: _attempt(use, member) for member in Pool.open(path).members}

    def stored() -> Any:
        pool = Pool.open(path)
        return {name: _attempt(lambda name: read_evaluation(pool, pool.team(name)), name) for name in pool.team_names}

    uses: dict[str, Callable[[], Any]] = {
        "ls": lambda: [
            _attempt(lambda name: Pool.open(path).team(name).model_dump(), name) for name in Pool.open(path).team_names
        ],
        "records": of_members(lambda member: member.record.model_dump()),
        "histories": of_members(lambda member: member.history()),
        "weights": of_members(lambda member: {key: value.tolist() for key, value in member.weights().items()}),
        "task": lambda: Pool.open(path).task.model_dump(),
        "evaluations": stored,
        "evaluate": lambda: evaluate(Pool.open(path), save=False).to_dict(),
    }
    if report:
        uses["report"] = lambda: report_info(Pool.open(path)).to_dict()
    # The last one, since it writes teams.
    uses["select"] = lambda: [team.model_dump() for team in select_teams(Pool.open(path), ["greedy", "all"])]
    said: dict[str, Any] = {}
    for name, use in uses.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            said[name] = _attempt(use), [str(warning.message) for warning in caught]
    return said


def _lines(said: Any) -> list[str]:
    """Every line that says what is wrong."""
    if isinstance(said, UserError):
        return [str(said)]
    if isinstance(said, tuple) and said[:1] == (None,) and isinstance(said[-1], str):  # no evaluation, and why
        return [said[1]]
    parts = said.values() if isinstance(said, dict) else said if isinstance(said, list) else ()
    found = [text for part in parts for text in _lines(part)]
    if isinstance(said, dict):  # of an evaluation, of a report
        found += [*(said.get("left_out") or {}).values(), *(note for note in said.get("notes") or () if "/" in note)]
    return found


@pytest.fixture(scope="module")
def used(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool with teams and their evaluations."""
    path = shutil.copytree(trained, tmp_path_factory.mktemp("used") / "p")
    shutil.rmtree(path / "control")
    select_teams(Pool.open(path), ["greedy", "all"])
    evaluate(Pool.open(path))
    return path


@pytest.fixture(scope="module")
def truth(used: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    said = _uses(shutil.copytree(used, tmp_path_factory.mktemp("truth") / "p"), report=True)
    assert not [text for result, warned in said.values() for text in _lines(result) + warned]
    return said


# Mutations


def _digit(path: Path, others: list[Path], rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    place = rng.choice([i for i, byte in enumerate(data) if 48 <= byte <= 57])
    data[place] = rng.choice([byte for byte in b"0123456789" if byte != data[place]])
    path.write_bytes(data)


def _bit(path: Path, others: list[Path], rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _cut(path: Path, others: list[Path], rng: random.Random) -> None:
    """At the end of a line, where what is left looks whole."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: rng.randrange(len(lines))]))


def _line(path: Path, others: list[Path], rng: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    path.write_bytes(b"".join(lines))


def _swap(path: Path, others: list[Path], rng: random.Random) -> None:
    if others:
        shutil.copy(rng.choice(others), path)


def _number(path: Path, others: list[Path], rng: random.Random) -> None:
    """A number of the JSON by another that could stand there."""
    data = json.loads(path.read_text().splitlines()[0]) if path.suffix == ".jsonl" else json.loads(path.read_text())
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            if isinstance(value, dict | list):
                walk(value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                places.append((part, key))

    walk(data)
    part, key = rng.choice(places)
    part[key] = rng.choice([50, -9.2, 0, part[key] * 1.01 + 1e-6])
    path.write_text(json.dumps(data) + "\n")


TEXTS = [_digit, _bit, _cut, _line, _swap, _number]
CASES = [(kind, how) for kind in ("pool.json", "record", "history", "team", "evaluation") for how in TEXTS]
CASES += [(kind, how) for kind in ("labels", "predictions", "weights") for how in (_bit, _swap)]


def check(
    used: Path, truth: dict[str, Any], path: Path, kind: str, how: Callable[..., None], seed: int, *, report: bool
) -> None:
    """One mutation: whoever says something else than before names the file, or where it lies."""
    rng = random.Random(f"{SEED} {kind} {how.__name__} {seed}")
    shutil.copytree(used, path)
    files = sorted(path.glob(KINDS[kind]))
    file = rng.choice(files)
    before = file.read_bytes()
    how(file, [other for other in files if other != file], rng)
    if file.read_bytes() == before:
        return
    said = _uses(path, report=report)
    where = file.parent if kind == "record" else file  # a record lies in its member's folder
    for use, (result, warned) in said.items():
        if _plain(result) != _plain(truth[use][0]):
            assert any(str(where) in text for text in _lines(result) + warned), (file, how.__name__, seed, use)


def _plain(said: Any) -> str:
    """Without what differs between two runs: where the pool lies, and when."""
    said = re.sub(r"20\d\d-\d\d-\d\dT[\d:+]+", "TIME", repr(said))
    return re.sub(r"/[^ '\"]*pytest-of[^ '\"]*/(p|\d+)\b", "POOL", said)


@pytest.mark.parametrize(("kind", "how"), CASES)
def test_a_changed_file_is_named_or_changes_nothing(used: Path, truth, tmp_path: Path, kind: str, how):
    check(used, truth, tmp_path / "0", kind, how, 0, report=how is _number)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "how"), CASES)
def test_many_changed_files(used: Path, truth, tmp_path: Path, kind: str, how):
    for seed in range(1, 20):
        check(used, truth, tmp_path / str(seed), kind, how, seed, report=True)
        shutil.rmtree(tmp_path / str(seed))


# Records


def test_a_record_says_who_may_change_it(pool: Pool):
    member = pool.members[0]
    data = json.loads(member.record_path.read_text())
    data["metrics"]["val"]["accuracy"] = 0.9
    write_json(member.record_path, data)
    with pytest.raises(UserError, match=r'record.json was changed after it was written.*deletes its entry "sha256"'):
        _ = Pool.open(pool.path).members[0].record
    del data["sha256"]  # as of an older version, or vouched for
    write_json(member.record_path, data)
    assert Pool.open(pool.path).members[0].record.metrics["val"]["accuracy"] == 0.9


def test_every_write_of_a_record_has_its_hash(pool: Pool):
    spec = loop_spec("loop", model="m", seed=0, notes={"x": (1, 2.5), "ü": None})
    [member] = pool.plan([spec])
    for _ in range(2):
        data = json.loads(member.record_path.read_text())
        assert len(data["sha256"]) == 64
        member.write_record(member.record.model_copy(update={"status": "failed", "reason": "\u2028 \ud83d"[:1]}))
    assert read_model(Header, pool.path / "pool.json") == pool.task


class Anything(BaseModel):
    pass


def test_the_order_and_layout_of_a_file_do_not_count(tmp_path: Path):
    path = tmp_path / "x.json"
    data = {
        "format": 1,
        "n": 1e300,
        "text": "é\u2028",
        "list": [1, 1.0, None, float("nan")],
        "nested": {"b": 1, "a": 2},
    }
    write_sealed(path, data)
    read = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(read.items())), indent=7))

    assert read_model(Anything, path)
    path.write_text(json_text({**read, "format": 2}))
    with pytest.raises(UserError, match="was changed after it was written"):
        read_model(Anything, path)


def test_a_planted_record_is_not_trained(pool: Pool, config):
    """With its hash recomputed: its id is of another spec."""
    member = pool.members[0]
    data = json.loads(member.record_path.read_text())
    data["status"] = "planned"
    data["spec"]["model"] = {"name": "torch.hub:load", "repo": "x"}
    write_sealed(member.record_path, {key: value for key, value in data.items() if key != "sha256"})
    again = Pool.open(pool.path).members[0]
    assert again.status == "damaged"
    with pytest.raises(UserError, match=r"its spec is not the one that its id \w+ was made of: delete the folder"):
        _ = again.record
    from lrensemble import train_pool

    with pytest.raises(UserError, match="its spec is not the one"):
        train_pool(config, pool.path, workers=1, threads=1, devices="cpu")


def test_another_spec_under_the_same_id_is_not_trained(pool: Pool, monkeypatch):
    """An id is short: somebody may find a spec that collides."""
    from lrensemble.pool import MemberSpec

    monkeypatch.setattr(MemberSpec, "id", lambda self, data: "0123456789")
    pool.plan([loop_spec("loop", model="asked for", seed=0, notes={})])
    with pytest.raises(UserError, match="0123456789 is another member under the same id"):
        pool.plan([loop_spec("loop", model="not asked for", seed=0, notes={})])


# Teams


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"members": {}}, "members"),
        ({"members": {"0123456789": 50.0}}, "weights sum to 50, not to 1"),
        ({"members": {"0123456789": 10.2, "0123456780": -9.2}}, "greater than or equal to 0"),
        ({"members": {"0123456789": float("nan")}}, "members"),
        ({"members": {"../../../x": 1.0}}, "members"),
        ({"temperatures": {"0123456789": 0.0}}, "temperatures"),
        ({"temperatures": {"0123456780": 1.0}}, "temperatures are of other members"),
        ({"validation": {"accuracy": 1.5}}, "validation accuracy of 1.5"),
        ({"validation": {"nll": -1.0}}, "validation.nll"),
        ({"validation_rows": 0}, "validation_rows"),
        ({"trajectory": [{"members": 0, "cost": 1.0, "score": 0.1}]}, "trajectory"),
        ({"vote": "sfot"}, "did you mean 'soft'"),
        ({"candidates": ["x/y"]}, "candidates"),
    ],
)
def test_teams_of_a_hand_are_checked(pool: Pool, changes: dict[str, Any], why: str):
    [team] = select_teams(pool, ["all"])
    path = pool.path / "teams" / "all.json"
    one = {"members": {"0123456789": 1.0}}
    path.write_text(json.dumps(team.model_dump(mode="json") | one | changes))
    with pytest.raises(UserError, match=f"all.json: cut off or damaged .*{why}.*run lrensemble select again"):
        pool.team("all")


def test_a_team_edited_by_hand(pool: Pool):
    [team] = select_teams(pool, ["all"])
    path = pool.path / "teams" / "all.json"
    data = json.loads(path.read_text())
    data["members"].popitem()
    write_json(path, data)
    with pytest.raises(
        UserError, match=r'run lrensemble select again.*Whoever changed it on purpose deletes its entry "s'
    ):
        pool.team("all")
    del data["sha256"]
    data["members"] = dict.fromkeys(data["members"], 1 / 3)
    write_json(path, data)
    assert len(pool.team("all").members) == len(team.members) - 1
    assert evaluate(pool, "all").score("all").members == 3


# Histories


def test_a_history_that_grows_ends_with_a_line(pool: Pool):
    member = pool.members[0]
    member.write_record(member.record.model_copy(update={"status": "planned", "files": {}}))
    path = member.path / "history.jsonl"
    lines = member.history()
    path.write_text(path.read_text() + '{"step": 1')
    with pytest.raises(UserError, match=r"history.jsonl: cut off or damaged \(its last line has no end"):
        member.history()
    path.write_text('{"step": 1}\n[1]\n')
    with pytest.raises(UserError, match="cut off or damaged"):
        member.history()
    assert lines


def test_a_failed_members_history_may_be_of_its_next_attempt(pool: Pool):
    member = pool.members[0]
    member.write_record(member.record.model_copy(update={"status": "failed"}))
    (member.path / "history.jsonl").write_text('{"step": 1}\n')
    assert member.history() == [{"step": 1}]


def test_labels_and_predictions_of_another_pool(pool: Pool):
    labels = np.array(read_array(pool.path / "labels" / "test.npy"))
    write_array(pool.path / "labels" / "test.npy", labels[::-1].copy())
    with pytest.raises(UserError, match="not the labels that the pool was made with"):
        pool.labels("test")


def test_gc_deletes_nothing_where_a_team_cannot_be_read(pool: Pool):
    """Nobody knows whose weights it needs."""
    select_teams(pool, ["all"])
    path = pool.path / "teams" / "all.json"
    path.write_text(path.read_text().replace("0.25", "0.26", 1))
    with pytest.raises(UserError, match=r"all\.json was changed after it was written"):
        plan_gc(pool, 0)
