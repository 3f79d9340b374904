"""A full disk is one line, whichever library writes; a pool that is moved away does not come back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lrensemble import Pool, UserError
from lrensemble.pool.files import write_json
from lrensemble.pool.select import select_teams

LIMITED = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}));"
    "from lrensemble.cli.main import run; sys.argv[0] = 'lrensemble'; run()"
)


def limited(size: int, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIMITED.format(size), *words], capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("format", ["safetensors", "torch", "onnx"])
def test_an_export_to_a_full_disk(pool: Pool, tmp_path: Path, format):
    if format == "onnx":
        pytest.importorskip("onnxscript")
    select_teams(pool, ["best-single"])
    out = tmp_path / "out"
    done = limited(1000, "export", str(pool.path), "best-single", "-o", str(out), "--as", format)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "the disk is full" in done.stderr
    assert not list(tmp_path.glob("*out*"))


def test_event_files_on_a_full_disk(pool: Pool, tmp_path: Path):
    pytest.importorskip("tensorboard")
    done = limited(100, "tensorboard", str(pool.path), "-o", str(tmp_path / "events"))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "the disk is full" in done.stderr


def test_what_was_moved_away_does_not_come_back(pool: Pool, tmp_path: Path):
    member = pool.members[0]
    record = member.record
    pool.path.rename(tmp_path / "moved")
    for write in (
        lambda: member.write_record(record),
        lambda: write_json(member.path / "x.json", {}),
        lambda: write_json(pool.path / "teams" / "x.json", {}),
        lambda: member.hold().__enter__(),
    ):
        with pytest.raises(UserError, match=r"its folder is gone\. Was it moved or deleted"):
            write()
    assert not pool.path.exists()


def test_a_pool_that_is_moved_while_it_is_trained(tmp_path: Path, monkeypatch):
    from lrensemble import load_config, train_pool
    from lrensemble.training import member as training
    from tests.conftest import tiny_config

    real = training._Checkpoints.__call__

    def move(self, run):
        if (tmp_path / "pool").exists():
            shutil.move(tmp_path / "pool", tmp_path / "moved")
        real(self, run)

    monkeypatch.setattr(training._Checkpoints, "__call__", move)
    with pytest.raises(UserError) as caught:
        train_pool(load_config(tiny_config(control=False)), tmp_path / "pool", workers=1, threads=1, devices="cpu")
    assert "\n" not in str(caught.value) and not (tmp_path / "pool").exists()
    monkeypatch.undo()
    again = train_pool(load_config(tiny_config(control=False)), tmp_path / "moved", workers=1, threads=1, devices="cpu")
    assert len(again.complete) == 4
