"""A member comes back from its pool as a module that gives its stored predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lrensemble import Pool, UserError, load_config, train_pool
from lrensemble.evaluation.network import load_data, load_network
from tests.conftest import tiny_config


def probabilities(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(np.asarray(images))).softmax(1).numpy()


@pytest.fixture(scope="module")
def norms(tmp_path_factory) -> Pool:
    """Batch norm, convolutions, a snapshot and averages."""
    config = tiny_config(
        model={"name": "resnet20"},
        training={"epochs": 2, "batch_size": 512},
        policies=["FIX(k0=0.05)"],
        averages=["swa", "ema"],
        snapshots=["1e"],
        control=False,
    )
    path = tmp_path_factory.mktemp("norms") / "pool"
    return train_pool(load_config(config), path, workers=1, devices="cpu")


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_stored_predictions_come_out_on_every_row(trained, norms, split):
    for pool in (Pool.open(trained), norms):
        images = getattr(load_data(pool), split).images
        for member in pool.complete:
            stored = np.load(member.path / "predictions" / f"{split}.npy")
            assert np.abs(probabilities(load_network(pool, member), images) - stored).max() < 1e-5
    assert len(norms.complete) == 4


def test_float_images_and_random_state(trained):
    pool = Pool.open(trained)
    images = load_data(pool).test.images[:20]
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    network = load_network(pool, pool.complete[0])
    assert torch.rand(1) == expected  # the builder's random weights were not drawn from it
    assert not network.training
    np.testing.assert_array_equal(probabilities(network, images), probabilities(network, images.astype(np.float32)))


def test_members_that_cannot_come_back(pool: Pool, tmp_path):
    member, other = pool.complete[:2]
    (member.path / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors: cut off or damaged \(it is missing\)"):
        load_network(pool, member)
    record = other.record.model_copy(update={"spec": other.record.spec.model_copy(update={"source": "import"})})
    other.write_record(record)
    with pytest.raises(UserError, match=f"member {other.id} .* was imported as predictions"):
        load_network(pool, other)


def test_a_model_that_was_changed_since(tmp_path, monkeypatch):
    source = "from torch import nn\ndef net(input_shape, num_classes):\n    return nn.Sequential(nn.Flatten(), {})\n"
    file = tmp_path / "changing_model.py"
    file.write_text(source.format("nn.Linear(64, num_classes)"))
    monkeypatch.syspath_prepend(tmp_path)
    config = tiny_config(model="changing_model:net", policies=["FIX(k0=0.05)"], control=False)
    pool = train_pool(load_config(config), tmp_path / "pool", workers=1, devices="cpu")
    member = pool.complete[0]
    assert load_network(pool, member, trust=True).model[1].weight.shape == (10, 64)
    import changing_model

    monkeypatch.setattr(changing_model, "net", lambda input_shape, num_classes: torch.nn.Linear(8, 3))
    with pytest.raises(UserError, match=f"member {member.id}: its weights do not fit the model changing_model:net"):
        load_network(pool, member, trust=True)
    monkeypatch.delattr(changing_model, "net")
    with pytest.raises(UserError, match="model changing_model:net"):
        load_network(pool, member, trust=True)


def test_data_that_are_not_those(pool: Pool):
    other = pool.task.model_copy(update={"data": {**pool.task.data, "split_seed": 1}})
    with pytest.raises(UserError, match=r"the data digits are not those of .* any more"):
        load_data(Pool(pool.path, other))
    own = Pool.create(pool.path.parent / "own", labels={"val": [0, 1], "test": [0, 1]})
    with pytest.raises(UserError, match="its data are not known here"):
        load_data(own)
