"""Architectures: sizes from the literature, layers against plain formulas, names that do not exist."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from lrensemble import UserError
from lrensemble.models import MODELS, build_model
from lrensemble.models.caffe import SpatialResponseNorm

GREY28, RGB32 = (1, 28, 28), (3, 32, 32)


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("lenet", GREY28, 431_080),  # Caffe's LeNet
        ("cnn3", RGB32, 89_578),  # Caffe's cifar10_full
        ("resnet20", RGB32, 269_722),  # He et al. 2016, table 6: 0.27M, 0.46M, 0.85M
        ("resnet32", RGB32, 464_154),
        ("resnet56", RGB32, 853_018),
        ("mlp", GREY28, 784 * 64 + 64 + 64 * 10 + 10),
    ],
)
def test_sizes(name, shape, parameters):
    assert size(build_model(name, input_shape=shape, num_classes=10)) == parameters


@pytest.mark.parametrize("name", MODELS)
def test_one_logit_a_class(name):
    model = build_model(name, input_shape=RGB32, num_classes=7).eval()
    assert model(torch.randn(2, *RGB32)).shape == (2, 7)


def test_spatial_response_norm_by_hand():
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    out = SpatialResponseNorm(alpha=0.3)(x)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    for i, j in ((0, 0), (2, 3), (4, 4)):
        energy = (padded[0, 1, i : i + 3, j : j + 3] ** 2).sum() / 9
        assert out[0, 1, i, j].item() == pytest.approx((x[0, 1, i, j] / (1 + 0.3 * energy) ** 0.75).item())


def test_torchvision_takes_grey_images():
    model = build_model("torchvision:resnet18", input_shape=GREY28, num_classes=4).eval()
    assert model(torch.randn(2, *GREY28)).shape == (2, 4)


def test_a_users_callable(monkeypatch):
    module = types.ModuleType("my_models")

    def small(*, input_shape, num_classes, width=3):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], width), nn.Linear(width, num_classes)
        )

    module.small = small
    monkeypatch.setitem(sys.modules, "my_models", module)
    model = build_model("my_models:small", input_shape=GREY28, num_classes=2, parameters={"width": 5})
    assert size(model) == 784 * 5 + 5 + 5 * 2 + 2
    with pytest.raises(UserError, match="did you mean 'small'"):
        build_model("my_models:smal", input_shape=GREY28, num_classes=2)
    with pytest.raises(UserError, match="did you mean 'width'"):
        build_model("my_models:small", input_shape=GREY28, num_classes=2, parameters={"widht": 5})


def test_what_is_no_module_is_refused(monkeypatch):
    module = types.ModuleType("my_models")
    module.nothing = lambda *, input_shape, num_classes: None
    monkeypatch.setitem(sys.modules, "my_models", module)
    with pytest.raises(UserError, match=r"returned NoneType, a torch.nn.Module is needed"):
        build_model("my_models:nothing", input_shape=GREY28, num_classes=2)


def test_an_error_inside_a_users_module_keeps_its_traceback(tmp_path, monkeypatch):
    (tmp_path / "broken_models.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        build_model("broken_models:x", input_shape=GREY28, num_classes=2)


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "message"),
    [
        ("lenett", GREY28, {}, "did you mean 'lenet'"),
        ("lenet", (1, 8, 8), {}, r"cannot take inputs of shape \(1, 8, 8\)"),
        ("lenet", GREY28, {"chanels": [1, 2]}, "did you mean 'channels'"),
        ("resnet20", RGB32, {"depth": 21}, r"depth 21: it must be 6n \+ 2"),
        ("torchvision:resnet81", RGB32, {}, "did you mean 'resnet18'"),
        ("torchvision:resnet18", RGB32, {"wdth": 3}, "wdth"),
        ("nowhere.models:net", RGB32, {}, "no module 'nowhere.models'"),
    ],
)
def test_errors(name, shape, parameters, message):
    with pytest.raises(UserError, match=message):
        build_model(name, input_shape=shape, num_classes=10, parameters=parameters)
