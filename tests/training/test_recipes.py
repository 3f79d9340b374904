"""The recipes in configs/ that use parameter groups, frozen layers and weights train: LRs and decays as they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lrensemble import Policy, load_config, train_pool
from lrensemble.models import build_model
from lrensemble.pool import RunSpec
from lrensemble.tasks import Images
from lrensemble.tasks.dataset import Split
from lrensemble.tasks.rows import DeviceData
from lrensemble.training.loop import Run
from lrensemble.training.plan import make_plan

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = ["training.epochs=1", "training.batch_size=4", "control=false", "seeds=[0]"]


def pictures(side: int, classes: int) -> Images:
    rng = np.random.default_rng(0)

    def rows(n: int) -> Split:
        return Split(rng.integers(0, 256, (n, 3, side, side), dtype=np.uint8), np.arange(n) % classes)

    return Images(rows(8), rows(4), rows(4), tuple(map(str, range(classes))))


def lrs_and_decays(spec: RunSpec, data: Images) -> dict[str, tuple[float, float]]:
    """Name of a trained parameter -> its LR at step 0 and its weight decay."""
    run = Run(spec, "id", DeviceData.of(data, torch.device("cpu")))
    names = {id(parameter): name for name, parameter in run.model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in run.optimizer.param_groups
        for parameter in group["params"]
    }


def test_airbench(tmp_path):
    data = pictures(32, 3)
    config = load_config(CONFIGS / "airbench_cifar10.yaml", ["model.width=0.1", *TINY], task=data)
    policy = Policy.parse(config.specs()[0].policy).bind(steps_per_epoch=10, total_steps=1000)
    assert [policy(step) for step in (0, 230, 1000)] == pytest.approx([0.2 * 1.5, 1.5, 0.07 * 1.5])
    found = lrs_and_decays(config.specs()[0], data)
    kinds = {name.rpartition(".")[2] for name in found}
    assert kinds == {"weight", "bias"}  # scales of norms are not trained
    for name, (lr, decay) in found.items():
        many = 64 if name.endswith("bias") else 1
        assert (lr, decay) == pytest.approx((0.3 * many, 0.0153 * 0.15 / 1.15 / 1.5 / many), rel=0.01)
    first = make_plan(config, tmp_path / "pool")
    pool = train_pool(first.of(first.specs[:1]), workers=1, threads=1, devices="cpu")
    assert [member.record.costs["steps"] for member in pool.complete] == [2]


def test_fine_tuning(tmp_path):
    torch.manual_seed(0)
    imagenet = build_model("torchvision:resnet18", input_shape=(3, 64, 64), num_classes=1000)
    torch.save(imagenet.state_dict(), tmp_path / "resnet18.pth")
    data = pictures(32, 3)
    changes = [f"model.weights={tmp_path / 'resnet18.pth'}", "policies=['COSINE(k0=0.001)']", *TINY]
    config = load_config(CONFIGS / "finetune.yaml", changes, task=data)
    assert any("its head (fc.weight, fc.bias)" in note for note in make_plan(config, tmp_path / "pool").notes)
    found = lrs_and_decays(config.specs()[0], data)
    assert {name.partition(".")[0] for name in found} == {"layer3", "layer4", "fc"}
    assert found["fc.weight"] == pytest.approx((0.01, 0.05)) and found["fc.bias"] == pytest.approx((0.01, 0))
    assert found["layer4.1.bn2.weight"] == pytest.approx((0.0009, 0))
    assert found["layer4.1.conv2.weight"] == pytest.approx((0.00081, 0.05))
    assert all(found[low][0] < found[high][0] for low, high in [("layer3.0.conv1.weight", "layer4.0.conv1.weight")])
    [member] = train_pool(config, tmp_path / "pool", workers=1, threads=1, devices="cpu").complete
    saved = load_file(member.path / "weights.safetensors")
    assert member.record.base and "layer2.0.conv1.weight" not in saved and "layer2.0.bn1.running_mean" in saved
    assert not torch.equal(saved["layer4.0.conv1.weight"], imagenet.state_dict()["layer4.0.conv1.weight"])
