"""Installation commands are ones that work where they are read."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import lrensemble
from lrensemble import installing
from lrensemble.installing import install

METADATA = """Metadata-Version: 2.4
Name: lrensemble
Version: 1
Requires-Dist: torch>=2.6
Requires-Dist: cmaes>=0.10; extra == 'cmaes'
Requires-Dist: optuna>=4.2; extra == 'recommend'
Requires-Dist: lrensemble[cmaes]; extra == "recommend"
"""


def installed(folder: Path, monkeypatch, origin: dict | None) -> None:
    """A distribution of lrensemble that came from `origin` (PEP 610)."""
    info = folder / "lrensemble-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    if origin:
        (info / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.setattr(installing, "distribution", lambda name: installing.Distribution.at(info))


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (None, ["lrensemble[recommend]"]),
        ({"url": "file:///a%20b/lrensemble", "dir_info": {"editable": True}}, ["-e", "/a b/lrensemble[recommend]"]),
        ({"url": "file:///x/lrensemble-1.whl", "archive_info": {}}, ["optuna>=4.2", "cmaes>=0.10"]),
        ({"url": "https://host/l.git", "vcs_info": {"vcs": "git"}}, ["optuna>=4.2", "cmaes>=0.10"]),
    ],
)
def test_the_command_is_of_how_it_was_installed(origin, words, tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, origin)
    command = shlex.split(install("recommend"))  # as a shell reads it
    assert command[command.index("install") + 1 :] == words


def test_every_extra_that_is_named_exists():
    root = Path(lrensemble.__file__).parent
    calls = re.compile(r"\binstall\('(\w+)'\)|\bneeded\(.+, \"(\w+)\"\)")
    named = {found[1] or found[2] for path in root.rglob("*.py") for found in calls.finditer(path.read_text())}
    extras = re.findall(r"^(\w+) = \[", (root.parent / "pyproject.toml").read_text(), re.MULTILINE)
    assert {"fast", "onnx", "recommend", "ray", "llm"} <= named <= set(extras)
    literal = re.compile("pip install '?lrensemble")
    assert not [path for path in root.rglob("*.py") if literal.search(path.read_text())]
