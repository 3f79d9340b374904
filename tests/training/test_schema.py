"""The schema of configurations takes what `load_config` takes, as far as keys and types go."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lrensemble import UserError, load_config
from lrensemble.cli.main import main
from lrensemble.training.schema import config_schema

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).parents[2]
BASE = {"data": "digits", "model": "mlp", "training": {"epochs": 1}, "policies": ["FIX(0.1)"]}


@pytest.fixture(scope="module")
def schema():
    found = config_schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def yaml(text: str) -> dict:
    return YAML(typ="safe", pure=True).load(text)


def test_examples_and_pages_are_valid(schema):
    pages = [ROOT / "README.md", ROOT / "docs" / "training.md"]
    blocks = [yaml(b) for page in pages for b in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)]
    examples = [yaml(path.read_text()) for path in sorted((ROOT / "configs").glob("*.yaml"))]
    assert len(examples) > 20 and len(blocks) > 5
    for config in [*examples, *(BASE | block for block in blocks)]:
        schema.validate(config)


@pytest.mark.parametrize(
    "change",
    [
        {"policies": "FIX(0.1)"},
        {"policies": [{"sample": "FIX(k0=log(1e-3, 1))", "n": 2}]},
        {"seeds": 2},
        {"seeds": [0, 5]},
        {"snapshots": "cycles"},
        {"snapshots": ["50%", 1]},
        {"averages": "swa"},
        {"averages": ["swa", {"name": "ema", "decay": 0.9}]},
        {"targets": 0.9},
        {"metrics": "brier"},
        {"model": {"name": "mlp", "hidden": [8]}},
        {"engine": {"stack": "auto"}},
        {"seeds": "two"},
        {"seeds": -1},
        {"polices": []},
        {"policies": []},
        {"control": 3},
        {"training": {"epochs": 0}},
        {"training": {"epochs": 1, "epoch": 1}},
        {"targets": [2]},
        {"model": {}},
        {"engine": {"stack": 0}},
    ],
    ids=str,
)
def test_it_says_what_reading_says(schema, change):
    config = {**BASE, **change}
    try:
        load_config({"name": "x", **config})
        possible = True
    except UserError:
        possible = False
    assert schema.is_valid(config) == possible


def test_every_key_is_explained(schema):
    found = schema.schema
    sections = [found, *(found["$defs"][name] for name in ("Training", "Engine"))]
    silent = {
        key for section in sections for key, value in section["properties"].items() if not value.get("description")
    }
    assert silent <= {"training", "grid", "engine", "epochs", "batch_size", "label_smoothing"}  # the words say it


def test_init_writes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--schema"]) == 0
    assert json.loads(Path("lrensemble.schema.json").read_text()) == config_schema()
    assert "# yaml-language-server: $schema=lrensemble.schema.json" in capsys.readouterr().out
    assert main(["init", "--schema", "-o", "no/where.json"]) == 2
