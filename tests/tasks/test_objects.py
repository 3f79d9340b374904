"""From Python with objects: arrays or torch Datasets, a model's class or a module, own loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import TensorDataset

from lrensemble import UserError, evaluate, load_config, select_teams, train_pool
from lrensemble.tasks import ArrayTask
from tests.tasks.own_task import Net

X, Y = load_breast_cancer(return_X_y=True)
X = ((X - X.mean(0)) / X.std(0)).astype(np.float32)
SPLITS = [(X[a:b], Y[a:b]) for a, b in ((0, 350), (350, 450), (450, 569))]
CONFIG = {
    "name": "cancer",
    "optimizer": {"name": "SGD", "momentum": 0.9},
    "training": {"epochs": 2, "batch_size": 32},
    "policies": ["FIX(k0=[0.02, 0.1])"],
}


def small(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, num_classes))


@pytest.fixture
def dataset() -> ArrayTask:
    """A torch Dataset and a loss of one's own."""
    train = TensorDataset(torch.from_numpy(SPLITS[0][0]), torch.from_numpy(SPLITS[0][1]))

    def hinge(scores, y):
        return nn.functional.multi_margin_loss(scores, y, reduction="none")

    return ArrayTask(train, *SPLITS[1:], class_names=("bad", "good"), loss=hinge)


def test_objects_train_select_and_evaluate(tmp_path, dataset):
    config = load_config(CONFIG, task=dataset, model=lambda num_classes: small(num_classes))
    pool = train_pool(config, tmp_path / "pool", threads=1, devices="cpu")
    assert [m.status for m in pool.members] == ["complete"] * 2
    select_teams(pool, ["top-k"])
    assert evaluate(pool).scores[0].accuracy > 0.85
    before = {m.id for m in pool.members}
    again = load_config(CONFIG, task=dataset, model=lambda num_classes: small(num_classes))
    assert {m.id for m in train_pool(again, tmp_path / "pool", threads=1, devices="cpu").members} == before


def test_a_class_that_can_be_imported_travels_to_workers(tmp_path):
    config = load_config({**CONFIG, "data": "tests.tasks.own_task:Moons"}, model=Net)
    assert config.model.name == "tests.tasks.own_task:Net"
    assert len(train_pool(config, tmp_path / "pool", workers=2, threads=1, devices="cpu").complete) == 2


def test_members_start_from_the_weights_of_a_module(tmp_path):
    torch.manual_seed(0)
    module = small(2)
    frozen = {**CONFIG, "training": {**CONFIG["training"], "freeze": ["^0"]}}
    pool = train_pool(load_config(frozen, task=ArrayTask(*SPLITS), model=module), tmp_path / "p", threads=1)
    assert len(pool.complete) == 2
    for member in pool.complete:
        assert torch.equal(member.weights()["0.weight"], module[0].weight)
        assert not torch.equal(member.weights()["2.weight"], module[2].weight)
    other = load_config(frozen, task=ArrayTask(*SPLITS), model=small(2))
    assert other.model.name != pool.complete[0].record.spec.model.name


def test_objects_do_not_travel(tmp_path, dataset):
    config = load_config(CONFIG, task=dataset, model=lambda num_classes: small(num_classes))
    with pytest.raises(UserError, match="known to this process alone: leave workers"):
        train_pool(config, tmp_path / "pool", workers=2)
    assert not (tmp_path / "pool").exists()


def test_what_is_no_model_is_one_line():
    with pytest.raises(UserError, match="a class, a function or a "):
        load_config(CONFIG, task=ArrayTask(*SPLITS), model=3)


def test_what_is_no_task_or_metric_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"task int is int, a lrensemble.Task is needed"):
        load_config(CONFIG, task=3)
    config = load_config(CONFIG, task=ArrayTask(*SPLITS, metrics={"best": 3}), model=small)
    with pytest.raises(UserError, match="metric best: 3 is no function"):
        train_pool(config, tmp_path / "pool")
    assert not (tmp_path / "pool").exists()
