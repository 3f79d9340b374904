"""Teams exported once, read by many tests."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from lrensemble import Images, Pool, Team, export_team, load_task, select_teams

FORMATS = ["torch", "safetensors"] + (["onnx"] if importlib.util.find_spec("onnxruntime") else [])


@pytest.fixture(scope="session")
def digits() -> Images:
    return load_task("digits", val_fraction=0.25)


@pytest.fixture(scope="session")
def shipped(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pool, Path]:
    """A pool with the team `all`, calibrated and weighted unequally, and that team in every format. Read only."""
    folder = tmp_path_factory.mktemp("shipped")
    pool = Pool.open(shutil.copytree(trained, folder / "pool"))
    save_team(pool, "all-weighted", "soft", calibrated=True)
    export_team(pool, "all-weighted", folder / "team", formats=FORMATS, benchmark=False)
    return pool, folder / "team"


def save_team(pool: Pool, name: str, vote: str, *, calibrated: bool) -> Team:
    """A team of all members with weights 1 to M, up to their sum."""
    (team,) = select_teams(pool, ["all"])
    ids = sorted(team.members)
    weights = np.arange(1.0, len(ids) + 1) / sum(range(1, len(ids) + 1))
    temperatures = dict(zip(ids, np.linspace(0.4, 2.5, len(ids)), strict=True)) if calibrated else {}
    members = dict(zip(ids, weights, strict=True))
    team = team.model_copy(update={"name": name, "vote": vote, "members": members, "temperatures": temperatures})
    pool.save_team(team)
    return team
