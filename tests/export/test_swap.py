"""A team that is exported over another one: there is always one, whole, and nothing else is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lrensemble import UserError
from lrensemble.export import swap
from lrensemble.export.swap import new_folder

LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("swap", sys.argv[-1])  # without torch
swap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(swap)
"""
KILLED = """
import os, sys, pathlib, shutil
out, step, exchange = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
if not exchange:
    swap._exchange = lambda one, other: False
count = 0
def step_or_die(real):
    def call(*arguments, **options):
        global count
        if count == step:
            os._exit(9)
        count += 1
        return real(*arguments, **options)
    return call
for module, name in ((os, "mkdir"), (os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir")):
    setattr(module, name, step_or_die(getattr(module, name)))
swap._exchange, swap.shutil.rmtree = step_or_die(swap._exchange), step_or_die(shutil.rmtree)
with swap.new_folder(out) as folder:
    (folder / "a").write_text("new")
    (folder / "b").write_text("new")
"""


def team(out: Path, words: str) -> None:
    with new_folder(out) as folder:
        for name in "ab":
            (folder / name).write_text(words)


def content(out: Path) -> set[str]:
    return {(out / name).read_text() for name in "ab"}


@pytest.mark.parametrize("exchange", [True, False])
def test_killed_between_any_two_steps(tmp_path: Path, exchange):
    finished = False
    for step in range(20):
        out = tmp_path / str(step) / "team"
        team(out, "old")
        done = subprocess.run(
            [sys.executable, "-c", LOAD + KILLED, str(out), str(step), str(exchange), swap.__file__],
            capture_output=True,
        )
        finished = done.returncode == 0
        assert done.returncode in (0, 9), done.stderr
        if exchange:
            assert len(content(out)) == 1  # at every instant
        team(out, "next")
        assert content(out) == {"next"} and [path.name for path in out.parent.iterdir()] == ["team"]
        if finished:
            break
    assert finished and step > 3


def test_without_exchange_what_was_on_its_way_out_comes_back(tmp_path: Path):
    out = tmp_path / "team"
    team(out, "old")
    out.replace(swap._old(out))  # killed here
    with pytest.raises(ZeroDivisionError), new_folder(out):
        assert content(out) == {"old"}
        raise ZeroDivisionError
    assert content(out) == {"old"} and [path.name for path in tmp_path.iterdir()] == ["team"]


def test_two_at_a_time(tmp_path: Path):
    with new_folder(tmp_path / "team"), pytest.raises(UserError, match="another process is writing"):
        team(tmp_path / "team", "x")


def test_a_link_leads_to_the_team(tmp_path: Path):
    team(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    team(tmp_path / "link", "new")
    assert content(tmp_path / "real") == {"new"} and (tmp_path / "link").is_symlink()


def test_names_that_are_patterns(tmp_path: Path):
    other = tmp_path / ".x.1234.tmp"
    other.mkdir()
    team(tmp_path / "*", "new")
    assert other.is_dir() and content(tmp_path / "*") == {"new"}


def test_a_reader_never_finds_nothing(tmp_path: Path):
    for name in "xy":
        (tmp_path / name).mkdir()
    if not swap._exchange(tmp_path / "x", tmp_path / "y"):
        pytest.skip("no exchange on this file system")
    out = tmp_path / "team"
    team(out, "0")
    code = (
        f"{LOAD}import pathlib\nout = pathlib.Path(sys.argv[1])\n"
        "for i in range(60):\n    with swap.new_folder(out) as f:\n        (f / 'a').write_text('x')\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(out), swap.__file__])
    looks = 0
    while writer.poll() is None:
        assert out.is_dir()
        looks += 1
    assert writer.returncode == 0 and looks > 100
