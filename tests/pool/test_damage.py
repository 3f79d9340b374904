"""A damaged member is named and left out; no file of a stranger is waited for; the machine's trouble is no damage."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Pool, UserError, evaluate, export_team
from lrensemble.cli.main import main
from lrensemble.errors import MachineError
from lrensemble.opening import clear_read_errors, file_hash, read_bytes
from lrensemble.pool.files import array_bytes, read_array, read_json, read_text
from lrensemble.pool.select import select_teams


def damage_record(path: Path) -> None:
    (path / "record.json").write_text('{"id": "')


def damage_nesting(path: Path) -> None:
    record = json.loads((path / "record.json").read_text())
    record["spec"]["policy"] = "SCALE(of=" * 2000 + "FIX(0.1)" + ")" * 2000
    (path / "record.json").write_text(json.dumps(record))


def damage_grid(path: Path) -> None:
    record = json.loads((path / "record.json").read_text())
    values = ",".join(["0.1"] * 5000)
    record["spec"]["policy"] = f"TRI(k0=[{values}], k1=[{values}], l=[{values}])"
    (path / "record.json").write_text(json.dumps(record))


def damage_brackets(path: Path) -> None:
    (path / "record.json").write_text("[" * 100_000)


def damage_pipe(path: Path) -> None:
    (path / "record.json").unlink()
    os.mkfifo(path / "record.json")


def damage_device(path: Path) -> None:
    (path / "record.json").unlink()
    (path / "record.json").symlink_to("/dev/zero")


def damage_size(path: Path) -> None:
    with (path / "record.json").open("r+b") as file:
        file.truncate(1 << 40)


def damage_validation(path: Path) -> None:
    (path / "predictions" / "val.npy").write_bytes(b"")


def damage_test(path: Path) -> None:
    (path / "predictions" / "test.npy").unlink()
    os.mkfifo(path / "predictions" / "test.npy")


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


def gone(pool: Pool) -> str:
    """The member to damage: neither the best one nor in the greedy team, where it can be helped."""
    best = pool.best_single().id
    return next(member.id for member in pool.members if member.id != best)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_the_rest_of_a_pool_works(pool: Pool, damage, capsys):
    select_teams(pool, ["all", "best-single"])
    member = gone(pool)
    damage(pool.path / "members" / member)
    path = str(pool.path)
    for words in (
        ["select", path, "--selector", "greedy", "best-single", "all", "--format", "json"],
        ["evaluate", path, "--format", "json"],
        ["report", path, "-o", f"{path}/r.html", "--format", "json"],
        ["diversity", path, "--format", "json"],
        ["propose", path, "-n", "1", "--format", "json"],
        ["export", path, "best-single", "-o", f"{path}/out", "--no-benchmark", "--as", "safetensors"],
        ["ls", path],
    ):
        if damage is damage_test and words[0] in ("select", "diversity", "propose"):
            continue  # they never open it
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert main(words) == 0, (words, capsys.readouterr().err)
        out = capsys.readouterr().out
        if words[0] == "ls":
            assert "damaged" in out or damage in (damage_validation, damage_test)
            continue
        lines = [str(one.message) for one in caught if str(one.message).startswith("left out of")]
        assert len(lines) == 1 and member in lines[0], (words, lines)
        if words[0] in ("select", "diversity", "propose"):
            assert list(json.loads(out)["left_out"]) == [member]
        if words[0] == "evaluate":
            assert list(json.loads(out)["members_left_out"]) == [member]


def test_a_team_that_needs_a_damaged_member_is_left_out(pool: Pool):
    select_teams(pool, ["all", "best-single"])
    member = gone(pool)
    damage_test(pool.path / "members" / member)
    with pytest.warns(UserWarning, match=member):
        left_out = evaluate(pool).left_out
    assert list(left_out) == ["all"] and member in left_out["all"] and "test.npy: cut off" in left_out["all"]
    with pytest.raises(UserError, match=f"team all needs member {member}"):
        export_team(pool, "all", pool.path / "out")


def test_files_are_regular_and_of_a_size(tmp_path: Path):
    pipe, sock, big = tmp_path / "pipe", tmp_path / "s", tmp_path / "big"
    os.mkfifo(pipe)
    here = Path.cwd()
    os.chdir(tmp_path)  # a socket's path is short
    try:
        server = socket.socket(socket.AF_UNIX)
        server.bind("s")
    finally:
        os.chdir(here)
    with big.open("wb") as file:
        file.truncate(1 << 40)
    for read in (read_bytes, read_text, read_json, read_array, file_hash):
        with pytest.raises(UserError, match=r"pipe is a named pipe, no file"):
            read(pipe)
        with pytest.raises(UserError, match="is a socket"):
            read(sock)
        with pytest.raises(UserError, match="is a device"):
            read(Path("/dev/zero"))
        with pytest.raises(UserError, match="is a folder"):
            read(tmp_path)
        with pytest.raises(UserError, match=r"cannot be read \(it is missing\)"):
            read(tmp_path / "nowhere")
    with pytest.raises(UserError, match="at most 16,777,216"):
        read_bytes(big)
    server.close()


def test_a_pipe_instead_of_a_history_or_pool_json(pool: Pool):
    member = pool.members[0]
    for name in ("history.jsonl", "record.json"):
        (member.path / name).unlink()
        os.mkfifo(member.path / name)
    (pool.path / "teams").mkdir()
    os.mkfifo(pool.path / "teams" / "x.json")
    for words in (["ls"], ["report"], ["evaluate"], ["show", member.id], ["tensorboard"], ["gc"]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert main([words[0], str(pool.path), *words[1:]]) in (0, 2)
    (pool.path / "pool.json").unlink()
    os.mkfifo(pool.path / "pool.json")
    assert main(["ls", str(pool.path)]) == 2


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": ' * 100_000, "[]", '{"a": [1]}', '{"a": "' + "x" * 100_000 + '"}', "{}\n[]\n"]
)
def test_a_history_that_is_none(pool: Pool, text):
    member = pool.members[0]
    (member.path / "history.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"history.jsonl: cut off or damaged"):
        member.history()


def test_brackets_in_an_evaluation_are_one_line(pool: Pool, tmp_path: Path):
    select_teams(pool, ["best-single"])
    (pool.path / "evaluations").mkdir(exist_ok=True)
    for text in ("[" * 100_000, '{"a":' * 100_000, "[]", "1"):
        (pool.path / "evaluations" / "best-single.json").write_text(text)
        out = str(tmp_path / "out")
        with pytest.raises(UserError, match=r"best-single.json: cut off or damaged"):
            export_team(pool, "best-single", out, formats=["safetensors"], benchmark=False)


def test_an_error_in_a_field_names_the_file(pool: Pool):
    path = pool.members[0].record_path
    record = json.loads(path.read_text().replace('"policy": "', '"policy": "NO'))
    del record["sha256"]  # as of an older version; with it, the file is called changed
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"record.json: cut off or damaged \(unknown LR policy"):
        _ = pool.members[0].record


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"shape": (2**31, 10), "descr": "<f4"}, "the file is shorter"),
        ({"shape": (2**62, 2**62), "descr": "<f4"}, "the file is shorter"),
        ({"shape": (-1, 10), "descr": "<f4"}, "shape"),
        ({"shape": (3, 10), "descr": "|O"}, "pickled"),
        ({"shape": "x", "descr": "<f4"}, "not valid"),
    ],
)
def test_headers_that_lie(tmp_path: Path, header, message):
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"fortran_order": False, **header})
        file.write(bytes(80))
    with pytest.raises(UserError, match=rf"x.npy: cut off or damaged \(.*{message}"):
        read_array(path)


def many(pool: Pool, count: int) -> None:
    """Members that cost no training: copies of one under other ids."""
    first = pool.members[0]
    for i in range(count):
        copy = shutil.copytree(first.path, pool.path / "members" / f"{i:010x}")
        record = json.loads((copy / "record.json").read_text()) | {"id": copy.name}
        (copy / "record.json").write_text(json.dumps(record))


def test_descriptors_do_not_grow_with_members(pool: Pool):
    many(pool, 300)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128));"
        "from lrensemble.cli.main import run; sys.argv[0] = 'lrensemble'; run()"
    )
    for words in (["select", str(pool.path), "--selector", "top-k", "--size", "3", "--memory", "1MB"],):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr


def test_too_many_open_files_is_said_of_the_machine(pool: Pool, monkeypatch):
    member = pool.members[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                kept.append(os.open("/dev/null", os.O_RDONLY))
        found = []
        for question in (
            lambda: member.record,
            lambda: member.status,
            member.history,
            lambda: member.check_file("predictions/val.npy"),
            lambda: pool.labels("val"),
            lambda: read_text(member.record_path),
            lambda: pool.without_damaged([member], lambda m: m.record),
        ):
            try:
                question()
            except MachineError as error:
                found.append(str(error))
    finally:
        for descriptor in kept:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(found) == 7, found
    assert all("too many files are open: nothing is damaged" in text and "cut off" not in text for text in found)
    assert not pool.left_out


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(24, "x"), MachineError, "nothing is damaged"),
        (OSError(23, "x"), MachineError, "on this machine"),
        (OSError(12, "x"), MachineError, "too little memory"),
        (OSError(116, "x"), MachineError, "file server"),
        (MemoryError(), MachineError, "too little memory"),
        (OSError(5, "x"), UserError, "look at the disk"),
        (PermissionError(13, "x"), UserError, "permission denied"),
        (OSError(40, "Too many levels of symbolic links"), UserError, "symbolic links"),
    ],
)
def test_every_trouble_has_its_own_line(tmp_path: Path, error, kind, message):
    with pytest.raises(kind, match=message) as caught, clear_read_errors(tmp_path):
        raise error
    assert "damaged (" not in str(caught.value)


def test_weights_with_too_little_memory(pool: Pool, monkeypatch):
    import safetensors.torch

    def load_file(path):
        raise MemoryError

    monkeypatch.setattr(safetensors.torch, "load_file", load_file)
    with pytest.raises(MachineError, match=r"weights.safetensors: cannot be read \(too little memory"):
        pool.members[0].weights()


def test_a_writer_of_a_pipe_is_not_read(tmp_path: Path):
    """Even with somebody at the other end."""
    os.mkfifo(tmp_path / "p")
    threading.Thread(target=lambda: os.open(tmp_path / "p", os.O_RDWR | os.O_NONBLOCK), daemon=True).start()
    with pytest.raises(UserError, match="named pipe"):
        read_bytes(tmp_path / "p")


def test_arrays_are_what_was_written(tmp_path: Path):
    for array in (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.zeros(3, "<f2")):
        (tmp_path / "a.npy").write_bytes(array_bytes(array))
        found = read_array(tmp_path / "a.npy")
        assert found.dtype == array.dtype and (found == array).all() and not found.flags.writeable


@pytest.mark.parametrize(
    "change",
    [
        {"rows": {}},
        {"rows": {"train": 1, "val": -1, "test": 1}},
        {"rows": {"train": 10**400, "val": 1, "test": 1}},
        {"class_names": []},
        {"input_shape": [-1, 8, 8]},
        {"data": {}},
        {"data": {"name": {}}},
        {"data": {"name": "npz", "root": 5}},
        {"labels_sha256": {}},
        {"normalisation": {"evil": [1.0]}},
        {"normalisation": {"mean": [0.0] * 100_000, "std": [1.0] * 100_000}},
    ],
    ids=str,
)
def test_a_header_that_does_not_agree_is_one_line(pool: Pool, change):
    header = json.loads((pool.path / "pool.json").read_text())
    header.pop("sha256")
    (pool.path / "pool.json").write_text(json.dumps({**header, **change}))
    with pytest.raises(UserError, match=f"damaged.*{next(iter(change))}"):
        Pool.open(pool.path)


@pytest.mark.parametrize(
    "data", [{"name": "digits", "val_fraction": "x"}, {"name": "folder", "root": ".", "size": 10**9}], ids=str
)
def test_options_of_data_that_are_none(pool: Pool, data, capsys):
    header = json.loads((pool.path / "pool.json").read_text())
    header.pop("sha256")
    (pool.path / "pool.json").write_text(json.dumps({**header, "data": data}))
    assert main(["robustness", str(pool.path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert {*data} & {"val_fraction", "size"} <= {*re.findall(r"\w+", line)}


def test_a_header_without_what_models_take(pool: Pool, capsys):
    select_teams(pool, ["all"])
    header = json.loads((pool.path / "pool.json").read_text())
    header.pop("sha256")
    (pool.path / "pool.json").write_text(json.dumps({**header, "normalisation": {}}))
    for words in (["robustness", str(pool.path)], ["export", str(pool.path), "all", "-o", f"{pool.path}-x"]):
        assert main(words) == 2
        assert "no normalisation" in capsys.readouterr().err
