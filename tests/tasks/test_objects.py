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
from lrensemble.training import make_plan
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
    with pytest.raises(UserError, match=r"metrics = .<.*: a dict of functions by their names is needed"):
        ArrayTask(*SPLITS, metrics=[small])


def nothing(*values):
    return None


def divides(*values):
    return 1 / 0


def scalar(scores, y):
    return nn.functional.cross_entropy(scores, y)


def nan_of(scores, y):
    return nn.functional.cross_entropy(scores, y, reduction="none") * float("nan")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": divides}, r"the loss raises ZeroDivisionError: division by zero \(test_objects.py, line \d+\)"),
        ({"loss": lambda scores: scores}, "the loss raises TypeError: .*takes 1 positional argument but 2 were given"),
        ({"loss": nothing}, "the loss is NoneType for 2 rows"),
        ({"loss": scalar}, r"the loss is \(\) for 2 rows, a tensor of shape \(2,\) is needed"),
        ({"loss": nan_of}, r"the loss of the first rows is \[nan, nan\] before any training"),
        (
            {"metrics": {"own_a": divides}},
            r"metric .*divides raises ZeroDivisionError: .*\(test_objects.py, line \d+\)",
        ),
        ({"metrics": {"own_b": nothing}}, "metric .*nothing returns None: one number is needed"),
        ({"metrics": {"own_c": lambda p, y: p[:, 0]}}, r"metric own_c returns an array of shape \(100,\)"),
        ({"metrics": {"own_d": lambda p, y: "good"}}, "metric own_d returns 'good'"),
        ({"metrics": {3: scalar}}, "metric 3 .*is not possible"),
    ],
)
def test_functions_that_raise_or_give_something_else_are_one_line_before_anything_is_written(tmp_path, options, words):
    config = load_config(CONFIG, task=ArrayTask(*SPLITS, **options), model=small)
    with pytest.raises(UserError, match=words) as caught:
        train_pool(config, tmp_path / "pool")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pool").exists()


def test_a_metric_may_be_nan_for_random_predictions(tmp_path):
    task = ArrayTask(*SPLITS, metrics={"own_e": lambda p, y: float("nan")})
    assert "own_e" in make_plan(load_config(CONFIG, task=task, model=small), tmp_path / "pool").config.metrics
