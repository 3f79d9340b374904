"""The site is built, its pages are in one order, and the tutorial's commands ship a team from a folder of pictures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from lrensemble.cli.main import main
from tests.test_readme import ROOT, blocks, commands

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
GENERATED = ("index.md", "reference/", "project/")


def pages(nav: list) -> list[str]:
    found = []
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            found += pages(value) if isinstance(value, list) else [value]
    return found


def test_every_page_is_in_the_navigation_once():
    config = YAML(typ="safe", pure=True).load((ROOT / "scripts" / "mkdocs.yml").read_text())
    named = [page for page in pages(config["nav"]) if not page.startswith(GENERATED)]
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.skipif(not (find_spec("mkdocs") and find_spec("mkdocstrings")), reason="needs the extra docs")
def test_the_site_is_built_without_a_broken_link(tmp_path):
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        str(ROOT / "scripts/mkdocs.yml"),
        "-d",
        tmp_path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "reference" / "python.html").read_text()
    assert all(f'id="lrensemble.{name}' in api or f'.{name}"' in api for name in ("Pool", "train_pool", "Ensemble"))
    keys = (tmp_path / "reference" / "configuration.html").read_text()
    assert "training.epochs" in keys and "engine.stack" in keys
    assert "lrensemble serve" in (tmp_path / "reference" / "commands.html").read_text()
    loaded = re.findall(r'(?:src|rel="stylesheet" href)="([^"]+)"', (tmp_path / "index.html").read_text())
    assert loaded and not [place for place in loaded if "//" in place]  # nothing from another host


@pytest.mark.slow
def test_the_tutorial(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, numbers in (("train", range(24)), ("test", range(101, 109))):
        for label, name in enumerate(("cat", "dog")):
            for number in numbers:
                pixels = rng.integers(0, 120, (16, 20, 3)) + 100 * (np.arange(16) < 8)[:, None, None] * label
                path = tmp_path / "photos" / split / name / f"{number:03}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    done = []
    for arguments in commands(TUTORIAL):
        if arguments[0] == "serve":  # it would not end: tests/export/test_serve.py
            continue
        if arguments[:2] == ["train", "photos.yaml"]:
            text = Path("photos.yaml").read_text().replace("epochs: 15", "epochs: 4")
            Path("photos.yaml").write_text(text.replace("control: true", "control: false"))
            arguments = [*arguments, "--workers", "1"]
        assert main(arguments) == 0, (arguments, capsys.readouterr().err)
        done.append(arguments[0])
    assert {"init", "lr-find", "train", "select", "evaluate", "report", "export", "predict", "propose"} == {*done} - {
        "ls"
    }
    capsys.readouterr()
    for code in blocks("python", TUTORIAL):
        exec(compile(code, "tutorial.md", "exec"), {"__name__": "tutorial"})
    assert capsys.readouterr().out.strip() in ("cat", "dog")
    assert Path("checkpoints/photos/report.html").is_file() and Path("lrensemble.schema.json").is_file()
