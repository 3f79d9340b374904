"""Weights that a model starts from: files, caches of the libraries, heads of other classes."""

from __future__ import annotations

import pickle
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lrensemble import UserError
from lrensemble.models import build_model, identified
from lrensemble.models.libraries import GreyToRGB

SMALL = "torchvision:shufflenet_v2_x0_5"
RGB, GREY = (3, 32, 32), (1, 32, 32)


def model_of(name: str, classes: int = 5, shape: tuple[int, ...] = RGB, **parameters: object) -> nn.Module:
    return build_model(name, input_shape=shape, num_classes=classes, parameters=parameters)


@pytest.fixture(scope="module")
def source() -> nn.Module:
    torch.manual_seed(5)
    return model_of(SMALL, 9)


@pytest.fixture(scope="module")
def file(source, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(source.state_dict(), path)
    return str(path)


def test_all_but_the_head_comes_from_the_file_and_it_is_said(source, file):
    said: list[str] = []
    torch.manual_seed(1)
    model = build_model(SMALL, input_shape=RGB, num_classes=5, parameters={"weights": file}, tell=said.append)
    torch.manual_seed(1)
    random = model_of(SMALL, 5).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, random[name] if name.startswith("fc.") else source.state_dict()[name]), name
    assert len(said) == 1 and "its head (fc.weight, fc.bias) starts at random" in said[0]


def test_as_many_classes_keep_the_head(source, file):
    said: list[str] = []
    model = build_model(SMALL, input_shape=RGB, num_classes=9, parameters={"weights": file}, tell=said.append).eval()
    x = torch.randn(2, *RGB)
    assert torch.equal(model(x), source.eval()(x)) and not said


@pytest.mark.parametrize("name", [SMALL, "timm:test_resnet"])
def test_grey_images_meet_weights_of_coloured_ones(name, tmp_path):
    path, source = tmp_path / "w.pt", model_of(name, 5).eval()
    torch.save(source.state_dict(), path)
    model = model_of(name, 5, GREY, weights=str(path)).eval()
    x = torch.randn(2, *GREY)
    assert isinstance(model[0], GreyToRGB)
    torch.testing.assert_close(model(x), source(x.expand(-1, 3, -1, -1)))
    empty = build_model(name, input_shape=GREY, num_classes=5, parameters={"weights": "gone"}, pretrained=False)
    assert empty.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("key", ["state_dict", "model", None])
def test_checkpoints_of_training_scripts(key, source, tmp_path):
    wrapped = {f"module.{name}": value for name, value in source.state_dict().items()}
    torch.save({key: wrapped, "epoch": 3} if key else wrapped, tmp_path / "c.pt")
    model = model_of(SMALL, 9, weights=str(tmp_path / "c.pt"))
    assert torch.equal(model.fc.weight, source.fc.weight)


def test_positions_are_resized_as_timm_does_it(tmp_path):
    source = model_of("timm:test_vit", 5, (3, 64, 64))
    torch.save(source.state_dict(), tmp_path / "vit.pt")
    model = model_of("timm:test_vit", 5, RGB, weights=str(tmp_path / "vit.pt"))
    assert model.pos_embed.shape[1] == 1 + 4 < source.pos_embed.shape[1]
    assert torch.equal(model.blocks[0].attn.qkv.weight, source.blocks[0].attn.qkv.weight)


# What is known by its hash


def test_the_hash_is_of_the_file_and_the_path_is_absolute(file, tmp_path, monkeypatch):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(Path(file).read_bytes())
    monkeypatch.chdir(tmp_path)
    first, second = identified(SMALL, {"weights": file}), identified(SMALL, {"weights": copy.name})
    assert first["weights_hash"] == second["weights_hash"]
    assert second["weights"] == str(copy)
    assert identified(SMALL, {"width": 1, "weights": None}) == {"width": 1}
    assert identified("my.models:net", {"weights": "theirs"}) == {"weights": "theirs"}
    copy.write_bytes(b"other")
    with pytest.raises(UserError, match=r"copy.safetensors is not the file that the model started from"):
        model_of(SMALL, **second)


# The libraries' caches


def test_torchvisions_cache(source, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(source.state_dict(), tmp_path / "checkpoints" / "shufflenetv2_x0.5-f707e7126e.pth")
    known = identified(SMALL, {"weights": "DEFAULT"})
    assert known["weights"] == "DEFAULT" and len(known["weights_hash"]) == 16
    assert torch.equal(model_of(SMALL, **known).conv1[0].weight, source.conv1[0].weight)
    assert identified(SMALL, {"weights": "IMAGENET1K_V1"})["weights_hash"] == known["weights_hash"]
    with pytest.raises(UserError, match="no weights 'IMAGENET1K_V3': did you mean 'IMAGENET1K_V1'"):
        identified(SMALL, {"weights": "IMAGENET1K_V3"})


def test_timms_cache(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    source = model_of("timm:test_resnet", 5)
    save_file(source.state_dict(), folder / "snapshots" / "abc" / "model.safetensors")
    known = identified("timm:test_resnet", {"pretrained": True})
    assert known.keys() == {"weights", "weights_hash"} and known["weights"] == "DEFAULT"
    model = model_of("timm:test_resnet", 5, **known)
    expected = source.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert identified("timm:test_resnet", {"pretrained": False}) == {}
    with pytest.raises(UserError, match="say the same thing twice"):
        identified("timm:test_resnet", {"pretrained": True, "weights": "x"})


@pytest.mark.parametrize("name", [SMALL, "timm:test_resnet"])
def test_without_a_network_it_is_one_line_and_soon(name, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def no_network(*_, timeout, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"cannot be fetched from https://.*Name or service not known.*weights=FILE"):
        identified(name, {"weights": "DEFAULT"})
    with pytest.raises(UserError, match=r"are not in .*, and nothing is fetched here"):  # a pool's member, a worker
        model_of(name, weights="DEFAULT", weights_hash="0" * 16)
    assert time.monotonic() - start < 5


# What is wrong


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("it was executed",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(Evil()), "it holds more than tensors"),
        (torch.nn.Linear(2, 2), "more than tensors, .*: not read: save model.state_dict.., not the model$"),
        (b"nonsense", "no file of torch.save|damaged"),
        ({"state_dict": [1, 2]}, "it holds no weights: tensors by name"),
        ({"fc.weight": "text"}, "it holds no weights"),
    ],
    ids=str,
)
def test_files_that_are_no_weights(content, words, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=words):
        model_of(SMALL, weights=str(path))


@pytest.mark.parametrize("classes", [5, 9], ids=["other classes too", "as many classes"])
def test_weights_of_another_model_are_named(classes, file):
    with pytest.raises(
        UserError, match=r"another model.*missing: .* more; not known: conv1.0.weight, .* more"
    ) as found:
        model_of("torchvision:squeezenet1_1" if classes == 5 else "torchvision:resnet18", classes, weights=file)
    assert "\n" not in str(found.value) and len(str(found.value)) < 600


def test_another_size_of_the_model_is_named(tmp_path):
    torch.save(model_of("mlp", 5, hidden=[8]).state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"of another shape: 1.bias \(8,\) for \(16,\), 1.weight"):
        model_of("mlp", 3, hidden=[16], weights=str(tmp_path / "w.pt"))


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("mlp", "DEFAULT", "no file DEFAULT with weights: mlp has none of its own"),
        (SMALL, "missing.pt", "no file missing.pt with weights: DEFAULT, or a file"),
        (SMALL, "https://x.org/w.pt", "another machine"),
        (SMALL, 3, "weights = 3 is not possible"),
        ("timm:test_resnet", "V2", "no weights 'V2': DEFAULT, or a file"),
    ],
)
def test_weights_that_are_none(name, weights, words):
    with pytest.raises(UserError, match=words):
        identified(name, {"weights": weights})
