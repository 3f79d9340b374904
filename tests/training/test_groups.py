"""Parameter groups: against groups written out by hand, ratios under a policy, frozen weights, and bad input."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lrensemble import Policy, UserError
from lrensemble.models import build_model
from lrensemble.pool import Named
from lrensemble.training.groups import freeze, parameter_groups
from lrensemble.training.optimizer import build_optimizer
from lrensemble.training.seeds import derive_seed
from lrensemble.training.steering import Steering
from tests.training.runs import digits, specs_of, train

HEAD, BODY = r"^3\.", r"^1\."  # of an MLP with one hidden layer: Flatten, Linear, ReLU, Linear


def mlp() -> nn.Module:
    return build_model("mlp", input_shape=(1, 8, 8), num_classes=10, parameters={"hidden": [16]})


def lrs(options: dict) -> dict[str, float]:
    """LR ratio of every parameter by its name."""
    model = mlp()
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, options, ["weight_decay"])
    return {names[p]: group["lr"] for group in groups for p in group["params"]}


def test_equal_to_groups_written_by_hand():
    """Head 10 times the LR and without decay, biases without decay, body frozen or not: the same weights."""
    groups = [{"params": HEAD, "lr": 10.0, "weight_decay": 0.0}]
    [spec] = specs_of(
        ["COS(k0=0.01, l=100%)"], optimizer={"name": "SGD", "momentum": 0.9, "weight_decay": 0.01, "groups": groups}
    )
    outcome = train(spec)
    data = digits()
    torch.manual_seed(derive_seed("id", "init"))
    model = mlp()
    optimizer = torch.optim.SGD(
        [{"params": model[1].parameters()}, {"params": model[3].parameters(), "weight_decay": 0.0}],
        lr=1.0,
        momentum=0.9,
        weight_decay=0.01,
    )
    steps = len(data.train) // 64
    policy = Policy.parse(spec.policy).bind(steps_per_epoch=steps, total_steps=4 * steps)
    for epoch in range(4):
        torch.manual_seed(derive_seed("id", epoch))
        order = torch.randperm(len(data.train))
        for step in range(steps):
            lr = float(policy(epoch * steps + step))
            optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = lr, 10 * lr
            index = order[step * 64 : (step + 1) * 64]
            optimizer.zero_grad()
            F.cross_entropy(model(data.train.arrays["x"][index]), data.train.labels[index]).backward()
            optimizer.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(outcome.weights[name], value, rtol=1e-4, atol=1e-6)


def test_the_first_pattern_counts_and_layers_decay():
    rules = [{"params": "bias", "lr": 2.0}, {"params": HEAD, "lr": 10.0}]
    assert lrs({"groups": rules}) == {"1.weight": 1.0, "1.bias": 2.0, "3.weight": 10.0, "3.bias": 2.0}
    assert lrs({"layer_decay": 0.5}) == {"1.weight": 0.5, "1.bias": 0.5, "3.weight": 1.0, "3.bias": 1.0}
    assert lrs({"layer_decay": 0.5, "groups": rules}) == {"1.weight": 0.5, "1.bias": 1.0, "3.weight": 10, "3.bias": 2}


def test_no_decay_is_for_all_of_one_dimension():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    optimizer = build_optimizer(Named(name="AdamW", weight_decay=0.1, no_decay=True), model)
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {4: 0.1, 2: 0.1, 1: 0.0}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_ratios_follow_the_policy():
    """Also where every group has a ratio of its own: 1 is the policy's LR, whatever the largest is."""
    groups = [{"params": HEAD, "lr": 0.5}, {"params": BODY, "lr": 0.1}]
    optimizer = build_optimizer(Named(name="SGD", groups=groups), mlp())
    Steering(optimizer, "FIX(0.02)", steps_per_epoch=1, total_steps=2)
    assert sorted(group["lr"] for group in optimizer.param_groups) == pytest.approx([0.002, 0.01])


def test_frozen_weights_stay_as_they_are():
    [spec] = specs_of(["FIX(0.1)"], f"training.freeze=['{BODY}']")
    torch.manual_seed(derive_seed("id", "init"))
    before = mlp().state_dict()
    after = train(spec).weights
    assert all(torch.equal(before[n], after[n]) == n.startswith("1.") for n in before)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ({"groups": [{"params": "haed"}]}, "'haed' matches no parameter"),
        ({"groups": [{"params": "("}]}, "is no regular expression"),
        ({"groups": [{"params": HEAD, "momentun": 0.5}]}, "unknown option 'momentun': did you mean 'momentum'"),
        ({"groups": [{"params": HEAD, "lr": 0}]}, "lr = 0 is not possible"),
        ({"groups": ["head"]}, "'head' is no group"),
        ({"groups": [{"params": ["head"]}]}, "is no group: {params: PATTERN"),
        ({"layer_decay": 1.5}, "layer_decay = 1.5 is not possible"),
    ],
)
def test_bad_groups_are_one_line(optimizer, words):
    with pytest.raises(UserError, match=words):
        build_optimizer(Named(name="SGD", **optimizer), mlp())


def test_freezing_everything_is_one_line():
    with pytest.raises(UserError, match="nothing is left to train"):
        freeze(mlp(), ["."])
