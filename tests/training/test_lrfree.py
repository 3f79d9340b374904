"""Optimizers that need no schedule: as members, with the weights and statistics that they are evaluated with."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from lrensemble import load_config
from lrensemble.errors import UserError
from lrensemble.pool import Named
from lrensemble.training.loop import Run, fit
from lrensemble.training.optimizer import build_optimizer
from tests.conftest import tiny_config
from tests.training.runs import assert_equal, digits, specs_of


class Normed(nn.Sequential):
    def __init__(self, input_shape, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_classes))


def normed_spec(optimizer):
    config = tiny_config(policies=["FIX(1)"], optimizer=optimizer, control=False)
    return load_config({key: value for key, value in config.items() if key != "model"}, model=Normed).specs()[0]


@pytest.mark.parametrize(
    "name", ["schedulefree.SGDScheduleFree", "schedulefree.AdamWScheduleFree", "prodigyopt.Prodigy"]
)
def test_they_learn_and_resume(name):
    pytest.importorskip(name.partition(".")[0])
    lr = "FIX(0.02)" if "Adam" in name else "FIX(1)"
    [spec] = specs_of([lr], f"optimizer={name}", "training.epochs=8")
    states = []

    def keep(run: Run) -> None:
        torch.save(run.state(), file := io.BytesIO())
        states.append(file)

    whole = fit(Run(spec, "id", digits()), after_epoch=keep)
    assert whole.history[-1]["val_accuracy"] > 0.8
    states[3].seek(0)
    resumed = fit(Run(spec, "id", digits()), state=torch.load(states[3], weights_only=True))
    assert_equal(resumed, whole)


def test_the_average_is_evaluated_with_statistics_of_its_own():
    """By schedule-free's own definition: x = (y - (1 - beta) z) / beta, computed from the state of the last step."""
    pytest.importorskip("schedulefree")
    spec = normed_spec("schedulefree.SGDScheduleFree")
    run = Run(spec, "id", digits())
    outcome = fit(run)
    weights = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.optimizer.train()
    beta = run.optimizer.param_groups[0]["momentum"]
    for name, y in run.model.named_parameters():
        x = (y - (1 - beta) * run.optimizer.state[y]["z"]) / beta
        torch.testing.assert_close(weights[name], x, rtol=1e-4, atol=1e-5)
        assert not torch.equal(weights[name], y)
    hidden = nn.functional.linear(digits().train.arrays["x"].flatten(1), weights["1.weight"], weights["1.bias"])
    whole = len(hidden) // run.batch_size * run.batch_size
    torch.testing.assert_close(weights["2.running_mean"], hidden[:whole].mean(0), rtol=1e-3, atol=1e-4)
    assert outcome.history[-1]["val_accuracy"] > 0.8


def test_names():
    model = nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"optimizer 'os\.system': .*schedulefree.* are the packages beside torch"):
        build_optimizer(Named(name="os.system"), model)
    pytest.importorskip("prodigyopt")
    with pytest.raises(UserError, match=r"unknown optimizer 'prodigyopt\.Prodgy': did you mean 'prodigyopt\.Prodigy'"):
        build_optimizer(Named(name="prodigyopt.Prodgy"), model)


def test_a_package_that_is_not_there(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "prodigyopt", None)
    with pytest.raises(UserError, match=r"pip install .*\[lrfree\]"):
        build_optimizer(Named(name="prodigyopt.Prodigy"), nn.Linear(2, 2))


def test_they_are_not_stacked():
    from lrensemble.training.engine import Engine
    from lrensemble.training.stack import stack_size

    [spec] = specs_of(["FIX(1)"], "optimizer=schedulefree.SGDScheduleFree")
    assert stack_size(spec, nn.Linear(64, 10), Engine(stack=4), torch.device("cpu")) == 1
