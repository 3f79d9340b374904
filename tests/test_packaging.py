"""What is built holds what an installed lrensemble needs, and nothing of this folder's."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lrensemble.version import __version__

ROOT = Path(__file__).parents[1]
PAPERS = {"2410.07564", "1908.06477"}


def tracked(*folders: str) -> set[str]:
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}


@pytest.mark.skipif(find_spec("hatchling") is None or not (ROOT / ".git").exists(), reason="needs hatchling and git")
def test_wheel_and_sdist(tmp_path):
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = Parser().parsestr(archive.read(f"lrensemble-{__version__}.dist-info/METADATA").decode())
    examples = {f"lrensemble/{name}" for name in tracked("configs")}
    assert {n for n in names if ".dist-info/" not in n} == tracked("lrensemble") | examples
    assert {"lrensemble/py.typed", "lrensemble/configs/digits.yaml"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert metadata["Author"] == "lrensemble developers"
    assert "all" in metadata.get_all("Provides-Extra")
    [sdist] = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked("lrensemble", "configs", "tests", "docs", "scripts") <= inside
    assert not [name for name in inside if name.startswith((".venv", "checkpoints", "shared"))]


def test_citation():
    found = YAML(typ="safe", pure=True).load((ROOT / "CITATION.cff").read_text())
    assert found["cff-version"] == "1.2.0" and found["authors"] and found["license"] == "Apache-2.0"
    assert {reference.get("url", "").rpartition("/")[2] for reference in found["references"]} >= PAPERS
