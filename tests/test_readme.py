"""What the README shows works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lrensemble import load_config
from lrensemble.cli.main import parse
from lrensemble.policies import ALIASES, FUNCTIONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split("\n")[0])
def test_python_examples_run(code, tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README", "exec"), {"__name__": "readme"})
    if "verdicts" in code:
        assert "n = 450" in capsys.readouterr().out


def test_commands_parse():
    commands = re.findall(r"^    (lrensemble .*?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        parse(shlex.split(command)[1:])


def test_the_configuration_is_valid():
    (text,) = blocks("yaml")
    config = load_config({"name": "readme", **YAML(typ="safe", pure=True).load(text)})
    assert len(config.specs()) == (3 + 2) * 3 * 2


def test_every_policy_is_in_the_document():
    text = (ROOT / "docs" / "policies.md").read_text()
    assert {*FUNCTIONS, *ALIASES} <= set(re.findall(r"[A-Z][A-Z0-9_]+", text))
