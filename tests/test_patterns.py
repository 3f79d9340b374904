"""A search for a regular expression ends, whatever file it is of."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from PIL import Image

from lrensemble import UserError, patterns
from lrensemble.models import build_model
from lrensemble.patterns import find_pattern
from lrensemble.tasks import load_task
from lrensemble.training.groups import freeze

NAMES = ("cat/p01_2.png", "dog/\udcff\u00e9 q.png", "")


@pytest.mark.parametrize("pattern", [r"/(p\d+)_", r"p\d+", "", "(x)?", r"^(\w)(a)", "é|\udcff"])
def test_it_finds_what_re_finds(pattern):
    found = [re.search(pattern, name) for name in NAMES]
    wanted = tuple(match and (match[1 if match.re.groups else 0] or "") for match in found)
    assert find_pattern(pattern, NAMES, "data.groups") == wanted


@pytest.mark.parametrize("pattern", ["(", "(" * 9000, "a{99999999999999}", "["])
def test_no_pattern_is_one_line(pattern):
    with pytest.raises(UserError, match=r"data\.groups: .* is no regular expression \(.*\)$"):
        find_pattern(pattern, NAMES, "data.groups")


def test_a_pattern_without_an_end_is_stopped(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(patterns, "SECONDS", 0.3)
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("L", (4, 4), ord(name)).save(tmp_path / split / name / f"{'x' * 40}.png")
    model = build_model("mlp", parameters={"hidden": [4]}, input_shape=(3,), num_classes=2)
    model.add_module("x" * 40, build_model("mlp", input_shape=(3,), num_classes=2))
    start = time.monotonic()
    with pytest.raises(UserError, match=r"data\.groups: .* takes more than 0\.3 s in 2 texts"):
        load_task("folder", root=tmp_path, groups="(x+)+!")
    with pytest.raises(UserError, match=r"training\.freeze: .* takes more than 0\.3 s"):
        freeze(model, ["(x+)+!"])
    assert time.monotonic() - start < 10
