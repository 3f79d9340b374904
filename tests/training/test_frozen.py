"""A frozen base: its builder gives it, a member has its hash and saves the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lrensemble import Ensemble, Pool, UserError, export_team, load_config, select_teams, train_pool
from lrensemble.evaluation.network import load_data, load_network
from lrensemble.export.soup import make_soups
from lrensemble.models import build_model
from lrensemble.training.plan import make_plan
from tests.conftest import tiny_config

BODY, HEAD = r"^1\.", r"^4\."  # the two layers of an MLP with dropout


def start(path: Path) -> str:
    """Weights of digits in 7 classes."""
    torch.manual_seed(0)
    model = build_model("mlp", input_shape=(1, 8, 8), num_classes=7, parameters={"hidden": [16], "dropout": 0.1})
    save_file(model.state_dict(), path)
    return str(path)


def fine_tuning(weights: str | None, *freeze: str, **changes):
    model = {"name": "mlp", "hidden": [16], "dropout": 0.1} | ({"weights": weights} if weights else {})
    training = {"epochs": 2, "batch_size": 64, "freeze": list(freeze), "shared_init": True}
    policies = ["FIX(k0=[0.05, 0.1])"]
    return load_config(
        tiny_config(**{"model": model, "training": training, "policies": policies, "control": False, **changes})
    )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> tuple[Pool, Path]:
    folder = tmp_path_factory.mktemp("tuned")
    weights = start(folder / "start.safetensors")
    config = fine_tuning(weights, BODY, averages=["ema"])
    return train_pool(config, folder / "pool", workers=1, threads=1, devices="cpu"), Path(weights)


def saved(member) -> set[str]:
    return set(load_file(member.path / "weights.safetensors"))


def test_a_member_saves_what_training_can_change_and_comes_back(tuned):
    pool, weights = tuned
    images = load_data(pool).val.images
    assert len(pool.complete) == 4
    for member in pool.complete:
        assert saved(member) == {"4.weight", "4.bias"} and member.record.base
        network = load_network(pool, member)
        assert torch.equal(network.model.state_dict()["1.weight"], load_file(weights)["1.weight"])
        with torch.no_grad():
            found = network(torch.from_numpy(np.asarray(images))).softmax(1).numpy()
        np.testing.assert_allclose(found, np.load(member.path / "predictions/val.npy"), atol=1e-5)


def test_an_exported_team_and_a_soup_are_whole(tuned, tmp_path):
    pool, weights = tuned
    [team] = select_teams(pool, ["all"])
    export_team(pool, team, tmp_path / "team", formats=["safetensors"], benchmark=False)
    soups = make_soups(pool, device="cpu")
    for written in filter(None, (soup.written for soup in soups)):
        member = next(m for m in Pool.open(pool.path).members if m.id == written)
        assert saved(member) == {"4.weight", "4.bias"} and member.record.base
        load_network(pool, member)
    kept = weights.rename(weights.with_name("elsewhere"))
    try:
        images = load_data(pool).test.images[:20]
        assert Ensemble.load(tmp_path / "team").predict_proba(np.asarray(images)).shape == (20, 10)
        with pytest.raises(UserError, match=r"no file .*start.safetensors with weights"):
            load_network(pool, pool.complete[0])
    finally:
        kept.rename(weights)


def test_the_hash_of_the_base_is_checked(tuned):
    pool, _ = tuned
    member = pool.complete[0]
    member.record  # noqa: B018 (read now)
    member.__dict__["record"] = member.record.model_copy(update={"base": "0" * 16})
    with pytest.raises(UserError, match=r"the frozen parameters of the model mlp.* are not those"):
        load_network(pool, member)
    del member.__dict__["record"]


def test_the_weights_decide_the_id_and_their_place_does_not(tuned, tmp_path):
    pool, weights = tuned
    config = fine_tuning(str(weights), BODY, averages=["ema"])
    moved = weights.with_name("moved.safetensors")
    moved.write_bytes(weights.read_bytes())
    ids = [spec.id("data") for spec in config.specs()]
    assert ids == [spec.id("data") for spec in fine_tuning(str(moved), BODY).specs()]
    assert ids[0] != fine_tuning(None, BODY).specs()[0].id("data")
    assert not make_plan(fine_tuning(str(moved), BODY, averages=["ema"]), pool.path).todo
    assert any("its head (4.weight, 4.bias) starts at random" in note for note in make_plan(config, pool.path).notes)
    with pytest.raises(UserError, match=r"there is no file .*gone.pt"):
        fine_tuning("gone.pt")


def test_a_random_base_is_saved(tmp_path):
    pool = train_pool(fine_tuning(None, BODY), tmp_path / "pool", workers=1, threads=1, devices="cpu")
    for member in pool.complete:
        assert saved(member) == {"1.weight", "1.bias", "4.weight", "4.bias"} and member.record.base is None
        load_network(pool, member)


def test_what_is_all_trained_needs_its_first_weights_no_more(tmp_path):
    weights = Path(start(tmp_path / "start.safetensors"))
    pool = train_pool(fine_tuning(str(weights)), tmp_path / "pool", workers=1, threads=1, devices="cpu")
    weights.unlink()
    assert saved(pool.complete[0]) == {"1.weight", "1.bias", "4.weight", "4.bias"}
    load_network(pool, pool.complete[0])


def test_another_run_gives_the_same_bits(tuned, tmp_path):
    pool, weights = tuned
    other = train_pool(fine_tuning(str(weights), BODY), tmp_path / "pool", workers=1, threads=1, devices="cpu")
    for member in other.complete:
        same = next(m for m in pool.complete if m.id == member.id)
        for name, value in load_file(member.path / "weights.safetensors").items():
            assert torch.equal(value, load_file(same.path / "weights.safetensors")[name])
