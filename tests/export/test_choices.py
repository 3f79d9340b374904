"""From a task of multiple choice to its exported team: what a row does not have gets nothing on the whole way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lrensemble import Ensemble, Task, export_team, load_config, select_teams, train_pool
from lrensemble.cli.main import main
from tests.export.conftest import FORMATS

ROWS, MOST, FEATURES = 80, 4, 3


class Quiz(Task):
    """A row is up to 4 choices of 3 numbers each; what is 0 everywhere does not exist. The largest sum is right."""

    class_names = ("A", "B", "C", "D")

    def __init__(self) -> None:
        self.facts = {"features": FEATURES}
        self._splits = {}
        for seed, name in enumerate(("train", "val", "test")):
            rng = np.random.default_rng(seed)
            x = rng.normal(size=(ROWS, MOST, FEATURES)).astype(np.float32)
            x[np.arange(MOST) >= rng.integers(2, MOST + 1, ROWS)[:, None]] = 0
            scores = np.where((x != 0).any(2), x.sum(2) + rng.normal(size=(ROWS, MOST)), -np.inf)
            self._splits[name] = {"x": x, "y": scores.argmax(1)}

    def split(self, name):
        return self._splits[name]

    def choices(self, name):
        return (self._splits[name]["x"] != 0).any(2)

    def scores(self, model, batch):
        x = batch["x"]
        return model(x).squeeze(2).masked_fill((x == 0).all(2), -torch.inf)


class Scorer(nn.Sequential):
    def __init__(self, features: int) -> None:
        super().__init__(nn.Linear(features, 8), nn.Tanh(), nn.Linear(8, 1))


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    config = load_config(
        {
            "name": "quiz",
            "data": "tests.export.test_choices:Quiz",
            "model": "tests.export.test_choices:Scorer",
            "optimizer": {"name": "SGD"},
            "training": {"epochs": 3, "batch_size": 16},
            "policies": ["FIX(k0=[0.05, 0.2, 0.5])"],
        }
    )
    return train_pool(config, tmp_path_factory.mktemp("quiz") / "pool", workers=1, threads=1, devices="cpu")


@pytest.mark.parametrize("vote", ["logit", "borda"])
def test_an_exported_team_gives_what_the_pool_says(pool, tmp_path, vote):
    """The export compares every row with the stored predictions by itself."""
    exists = pool.choices("test")
    assert (np.asarray(pool.predictions("test"))[:, ~exists] == 0).all()
    [team] = select_teams(pool, ["all"], vote=vote, temperature=True)
    assert any(t > 1.2 or t < 0.8 for t in team.temperatures.values())
    formats = [format for format in FORMATS if format != "safetensors" and (format == "torch" or vote == "logit")]
    card = export_team(pool, team, tmp_path / "team", formats=formats, benchmark=False, trust=True)
    assert all(check.rows == ROWS and check.what.startswith("compared with") for check in card.checks.values())
    assert card.chance == {split: pool.chance(split) for split in ("val", "test")}
    assert f"| {100 * pool.chance('val'):.2f} |" in (tmp_path / "team" / "README.md").read_text()
    for format in formats:
        found = Ensemble.load(tmp_path / "team", format=format).predict_proba(Quiz().split("test")["x"])
        assert (found[~exists] == 0).all()
        assert (found.argmax(1) == pool.labels("test")).mean() > pool.chance("test")
    np.save(tmp_path / "rows.npy", Quiz().split("test")["x"])
    assert main(["predict", str(tmp_path / "team"), str(tmp_path / "rows.npy"), "--format", "json"]) == 0
