"""Architectures: sizes from the literature, layers against plain formulas, names that do not exist."""

from __future__ import annotations

import math
import sys
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lrensemble import UserError
from lrensemble.models import MODELS, build_model, is_users_own
from lrensemble.models.caffe import SpatialResponseNorm

GREY28, RGB32 = (1, 28, 28), (3, 32, 32)
META = torch.device("meta")  # shapes without memory or arithmetic: WRN-28-10 costs nothing
OF_IMAGES = [name for name in MODELS if name not in ("carsnn", "event_resnet", "hf")]  # those: test_spiking, tests/text
TRAINABLE = [name for name in OF_IMAGES if name != "wrn28_10"]  # its layers are those of wrn16_4


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def seeded(name: str, shape: tuple[int, ...] = RGB32, **parameters: object) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, input_shape=shape, num_classes=7, parameters=parameters)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "parameters", "expected"),
    [
        ("lenet", GREY28, 10, {}, 431_080),  # Caffe's LeNet
        ("cnn3", RGB32, 10, {}, 89_578),  # Caffe's cifar10_full
        ("resnet20", RGB32, 10, {}, 269_722),  # He et al. 2016, table 6: 0.27M, 0.46M, 0.85M
        ("resnet32", RGB32, 10, {}, 464_154),
        ("resnet56", RGB32, 10, {}, 853_018),
        ("wrn28_10", RGB32, 10, {}, 36_479_194),  # Zagoruyko & Komodakis 2016: 36.5M, 2.2M; all as in pytorchcv 0.0.74
        ("wrn28_10", RGB32, 100, {}, 36_536_884),
        ("wrn16_4", RGB32, 10, {}, 2_748_890),
        ("wrn16_4", RGB32, 10, {"width": 10}, 17_116_634),
        ("wrn16_4", RGB32, 10, {"depth": 40, "width": 8}, 35_748_314),
        ("wrn16_4", RGB32, 10, {"depth": 40, "width": 2}, 2_243_546),
        ("fastcnn", RGB32, 10, {}, 1_971_640),  # airbench 0.1.8's make_net94, the frozen first filters included
        ("timm:resnet18", RGB32, 1000, {}, 11_689_512),  # torchvision's number
        ("timm:resnet18", GREY28, 1000, {}, 11_689_512 - 2 * 64 * 7 * 7),
        ("mlp", GREY28, 10, {}, 784 * 64 + 64 + 64 * 10 + 10),
    ],
)
def test_sizes(name, shape, classes, parameters, expected):
    with META:
        assert size(build_model(name, input_shape=shape, num_classes=classes, parameters=parameters)) == expected


@pytest.mark.parametrize("shape", [GREY28, RGB32], ids=str)
@pytest.mark.parametrize("name", [*OF_IMAGES, "torchvision:resnet18", "timm:resnet18"])
def test_one_logit_a_class(name, shape):
    with META:
        model = build_model(name, input_shape=shape, num_classes=7)
        assert model(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", TRAINABLE)
def test_starts_near_chance_and_every_parameter_learns(name):
    model, x = seeded(name), torch.randn(32, *RGB32)
    loss = F.cross_entropy(model(x), torch.arange(32) % 7)
    # A ResNet adds up positive outputs of its blocks, so its first logits are larger.
    assert loss.item() == pytest.approx(math.log(7), abs=0.75 if name.startswith("resnet") else 0.35)
    loss.backward()
    unused = [key for key, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not unused


@pytest.mark.parametrize("name", TRAINABLE)
def test_the_seed_decides(name):
    x = torch.randn(4, *RGB32, generator=torch.Generator().manual_seed(1))
    first, second = (seeded(name)(x) for _ in range(2))  # training mode: batch statistics, dropout
    assert torch.equal(first, second)
    model = seeded(name).eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("name", TRAINABLE)
def test_memory_format_does_not_matter(name):
    model, x = seeded(name).eval(), torch.randn(4, *RGB32)
    expected = model(x)
    out = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["fastcnn", "wrn16_4"])
def test_compiles_without_graph_breaks_and_takes_bfloat16(name):
    model, x = seeded(name).eval(), torch.randn(2, *RGB32)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), model(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x).isfinite().all()
    assert model.bfloat16()(x.bfloat16()).isfinite().all()


def test_wide_resnet_by_hand():
    """WRN-10-2 as the paper's formulas: three blocks, each with a shortcut that sees the activated input."""
    model = seeded("wrn16_4", depth=10, width=2).double().eval()
    for key, value in model.state_dict().items():
        if "num_batches" not in key and value.dim() == 1:  # no norm may be the identity
            value.uniform_(0.5, 1.5)
    x = torch.randn(2, *RGB32, dtype=torch.float64)

    def active(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return ((x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]).clamp(min=0)

    stem, *blocks = list(model)[:4]
    out = F.conv2d(x, stem.weight, padding=1)
    for block, stride in zip(blocks, (1, 2, 2), strict=True):
        inside = active(block.bn1, out)
        skip = F.conv2d(inside, block.shortcut.weight, stride=stride)
        inside = active(block.bn2, F.conv2d(inside, block.conv1.weight, stride=stride, padding=1))
        out = skip + F.conv2d(inside, block.conv2.weight, padding=1)
    logits = active(model[4], out).mean((2, 3)) @ model[-1].weight.T + model[-1].bias
    torch.testing.assert_close(model(x), logits)


def test_wide_resnet_drops_out_in_training_only():
    model, x = seeded("wrn16_4", depth=10, width=1, dropout=0.3), torch.randn(4, *RGB32)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_fastcnn_starts_as_the_identity():
    model, x = seeded("fastcnn", width=0.5), torch.randn(2, 128, 6, 6)
    for convolution in (m for m in model if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)):
        kept = min(convolution.in_channels, convolution.out_channels)
        assert torch.equal(convolution(x[:, : convolution.in_channels])[:, :kept], x[:, :kept])
        assert convolution.weight[kept:].all()  # what has no input channel of its own to copy is random


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


def test_timm_models_are_built_for_the_size_of_the_images():
    model = build_model("timm:test_vit", input_shape=RGB32, num_classes=4).eval()
    assert model.pos_embed.shape[1] == 1 + (32 // 16) ** 2  # a class token and 2x2 patches
    assert model(torch.randn(2, *RGB32)).shape == (2, 4)
    larger = build_model("timm:test_vit", input_shape=RGB32, num_classes=4, parameters={"img_size": 64})
    assert larger.pos_embed.shape[1] == 1 + (64 // 16) ** 2


def test_timm_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"needs timm: pip install .*\[timm\]"):
        build_model("timm:resnet18", input_shape=RGB32, num_classes=4)


@pytest.mark.parametrize(
    ("name", "own"),
    [("my_models:net", True), ("torchvision:resnet18", False), ("timm:resnet18", False), ("timm", False)],
)
def test_users_own(name, own):
    assert is_users_own(name) is own


def test_a_users_callable(monkeypatch):
    module = types.ModuleType("my_models")

    def small(*, input_shape, num_classes, width=3):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], width), nn.Linear(width, num_classes)
        )

    module.small = small
    monkeypatch.setitem(sys.modules, "my_models", module)
    model = build_model("my_models:small", input_shape=GREY28, num_classes=2, parameters={"width": 5}, trust=True)
    assert size(model) == 784 * 5 + 5 + 5 * 2 + 2
    with pytest.raises(UserError, match="did you mean 'small'"):
        build_model("my_models:smal", input_shape=GREY28, num_classes=2, trust=True)
    with pytest.raises(UserError, match="did you mean 'width'"):
        build_model("my_models:small", input_shape=GREY28, num_classes=2, parameters={"widht": 5}, trust=True)


def test_what_is_no_module_is_refused(monkeypatch):
    module = types.ModuleType("my_models")
    module.nothing = lambda *, input_shape, num_classes: None
    monkeypatch.setitem(sys.modules, "my_models", module)
    with pytest.raises(UserError, match=r"returned NoneType, a torch.nn.Module is needed"):
        build_model("my_models:nothing", input_shape=GREY28, num_classes=2, trust=True)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import not_installed_anywhere", "ModuleNotFoundError: No module named 'not_installed_anywhere'"),
        ("raise ValueError('no')", "ValueError: no"),
        ("def f(:", "SyntaxError: invalid syntax"),
    ],
)
def test_an_error_inside_a_users_module_names_its_line(tmp_path, monkeypatch, source, words):
    (tmp_path / "broken_models.py").write_text(f"\n{source}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=f"import of broken_models raises {words} .broken_models.py, line 2.$"
    ) as caught:
        build_model("broken_models:x", input_shape=GREY28, num_classes=2, trust=True)
    assert caught.value.__cause__ is not None


def test_a_builder_that_raises_is_one_line(monkeypatch):
    def broken(*, input_shape, num_classes):
        return nn.Module.__setattr__(nn.Module.__new__(nn.Module), "layer", nn.Linear(1, 1))

    module = types.ModuleType("my_models")
    module.broken = broken
    monkeypatch.setitem(sys.modules, "my_models", module)
    with pytest.raises(
        UserError, match=r"model my_models:broken\(\) raises AttributeError: cannot assign module .*line"
    ):
        build_model("my_models:broken", input_shape=GREY28, num_classes=2, trust=True)


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "message"),
    [
        ("lenett", GREY28, {}, "did you mean 'lenet'"),
        ("lenet", (1, 8, 8), {}, r"cannot take inputs of shape \(1, 8, 8\)"),
        ("lenet", GREY28, {"chanels": [1, 2]}, "did you mean 'channels'"),
        ("resnet20", RGB32, {"depth": 21}, r"depth 21: it must be 6n \+ 2"),
        ("wrn16_4", RGB32, {"depth": 18}, r"depth 18: it must be 6n \+ 4"),
        ("wrn16_4", RGB32, {"width": 0}, "width 0: it must be a whole number"),
        ("wrn16_4", RGB32, {"droput": 0.3}, "did you mean 'dropout'"),
        ("wrn16_4", RGB32, {"dropout": 3}, "dropout probability has to be between 0 and 1"),
        ("fastcnn", (1, 8, 8), {}, r"shape \(1, 8, 8\).* at least 9x9 pixels"),
        ("fastcnn", RGB32, {"width": 0.001}, "width = 0.001 leaves 0 channels"),
        ("timm", RGB32, {}, r"unknown model 'timm'.*torchvision:NAME, timm:NAME or package.module:callable"),
        ("timm:resnet81", RGB32, {}, "did you mean 'resnet18'"),
        ("timm:resnet18.a1_in2k", RGB32, {}, "unknown timm model 'resnet18.a1_in2k': did you mean 'resnet18'"),
        ("timm:resnet18", RGB32, {"wdth": 3}, "wdth"),
        ("timm:resnet18", RGB32, {"img_size": 64}, r"timm:resnet18\(img_size=64\) cannot be built.*img_size"),
        ("timm:xcit_nano_12_p8_224", GREY28, {}, r"cannot be built: `patch_size` should divide"),
        ("torchvision:resnet81", RGB32, {}, "did you mean 'resnet18'"),
        ("torchvision:resnet18", RGB32, {"wdth": 3}, "wdth"),
        ("torchvision:vit_b_16", RGB32, {"image_size": 33}, "Input shape indivisible by patch size"),
        ("nowhere.models:net", RGB32, {}, "no module 'nowhere.models'"),
    ],
)
def test_errors(name, shape, parameters, message):
    with pytest.raises(UserError, match=message):
        build_model(name, input_shape=shape, num_classes=10, parameters=parameters, trust=True)
