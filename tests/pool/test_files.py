"""Files are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from lrensemble import UserError
from lrensemble.pool import files


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})

    def half(file):
        file.write(b'{"a": ')
        raise RuntimeError("killed in between")

    with pytest.raises(RuntimeError):
        files.write_atomic(path, half)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch, code):
    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"the disk is full: .*x.npy was not written"):
        files.write_array(tmp_path / "x.npy", np.zeros(3))
    assert list(tmp_path.iterdir()) == []


def test_a_real_full_disk(tmp_path):
    """/dev/full fails every write with ENOSPC."""
    with (
        pytest.raises(UserError, match="the disk is full"),
        files.clear_disk_errors(tmp_path / "x"),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        file.write(b"x")


def test_json_has_no_nan(tmp_path):
    text = files.json_text({"loss": float("nan"), "x": [np.float32(1.5), float("inf")]})
    assert json.loads(text) == {"loss": None, "x": [1.5, None]}


def test_arrays_are_mapped_and_never_unpickled(tmp_path):
    path = tmp_path / "x.npy"
    files.write_array(path, np.arange(6.0).reshape(2, 3))
    assert isinstance(files.read_array(path), np.memmap)
    np.save(path, np.array([{}], dtype=object))
    with pytest.raises(UserError, match="cut off or damaged"):
        files.read_array(path)
