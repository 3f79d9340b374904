"""Configurations: what they expand to, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrensemble import UserError, load_config
from tests.conftest import tiny_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_members_are_the_product():
    config = load_config(
        tiny_config(
            seeds=3, grid={"training.batch_size": [32, 64], "model": ["mlp", {"name": "mlp", "hidden": [8, 8]}]}
        )
    )
    specs = config.specs()
    assert len(specs) == 4 * 3 * 2 * 2
    assert len({spec.id("data") for spec in specs}) == len(specs)
    assert {spec.seed for spec in specs} == {0, 1, 2}


def test_random_search():
    entry = {"sample": "WARMUP(COS(k0=log(1e-3, 1), l=100%), l=[1e, 2e])", "n": 6, "seed": 3}
    specs = load_config(tiny_config(policies=["FIX(0.1)", entry])).specs()
    assert len(specs) == 7
    assert specs == load_config(tiny_config(policies=["FIX(0.1)", entry])).specs()
    assert specs != load_config(tiny_config(policies=["FIX(0.1)", {**entry, "seed": 4}])).specs()
    assert load_config(tiny_config(), ["policies={sample: 'FIX(k0=log(1e-3, 1))', n: 3}"]).specs()


def test_a_member_asked_for_twice_is_one():
    assert len(load_config(tiny_config(policies=["FIX(0.1)", "fix(k0=[0.1, 0.10])"])).specs()) == 1


def test_id_depends_on_all_that_matters_and_not_on_defaults():
    spec = load_config(tiny_config()).specs()[0]
    same = load_config(tiny_config(), ["training.label_smoothing=0.0"]).specs()[0]
    assert same.id("data") == spec.id("data") != spec.id("other data")
    off = load_config(tiny_config(), ["training.shared_init=false"]).specs()[0]
    assert off.id("data") == spec.id("data")
    for override in (
        "training.shared_init=true",
        "training.epochs=5",
        "model.hidden=[17]",
        "seeds=[1]",
        "optimizer.momentum=0.8",
        "model=lenet",
    ):
        assert load_config(tiny_config(), [override]).specs()[0].id("data") != spec.id("data")


def test_ids_of_older_pools_stay():
    """As computed before `shared_init` was added."""
    config = tiny_config(model={"name": "mlp", "hidden": [16]}, policies=["FIX(k0=0.1)"])
    assert load_config(config).specs()[0].id("data") == "b7f2c7d8e1"


def test_yaml_numbers_and_overrides(tmp_path: Path):
    path = tmp_path / "my-run.yaml"
    path.write_text(
        "data: digits\nmodel: mlp\noptimizer: {name: SGD, weight_decay: 5e-4}\n"
        "training: {epochs: 2}\npolicies:\n  - NSTEP(k0=0.1, gamma=0.1, l=[1e,50%])\n"
    )
    config = load_config(path, ["training.epochs=1e1", "model.hidden=[5]", "policies=FIX(k0=[0.1,0.2])"])
    assert config.name == "my-run"
    assert config.optimizer.parameters["weight_decay"] == 0.0005
    assert config.training.epochs == 10
    assert config.model.parameters == {"hidden": [5]}
    assert [spec.policy for spec in config.specs()] == ["FIX(k0=0.1)", "FIX(k0=0.2)"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations(path: Path):
    config = load_config(path)
    specs = config.specs()
    functions = {spec.policy.split("(")[0] for spec in specs}
    assert config.control
    assert len(specs) >= (12 if path.stem == "digits" else 16)
    assert len(functions) >= 6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "unknown key 'training.epoch': did you mean 'epochs'"),
        ("training.stop={acuracy: 0.2}", "unknown key 'training.stop.acuracy': did you mean 'accuracy'"),
        ("polices=FIX(0.1)", "unknown key 'polices': did you mean 'policies'"),
        ("training.epochs=0", "training.epochs = 0: .*greater than 0"),
        ("training.epochs=many", "training.epochs = 'many'"),
        ("training.augment=[crp]", "training.augment.0 = 'crp'.*'crop' or 'flip'"),
        ("data.val_fraction=1.2", "data.val_fraction = 1.2"),
        ("data.name=digts", "did you mean 'digits'"),
        ("policies=STEP(k0=0.1, gamma=-1, l=3)", "gamma = -1 is not possible"),
        ("policies=STP(0.1)", "did you mean 'STEP'"),
        ("policies=[]", r"policies = \[\]"),
        ("seeds=[]", "seeds is empty"),
        ("policies='FIX(k0=log(1e-3, 1))'", r"k0=log\(0.001, 1\) is a range: sample some"),
        ("policies={sample: 'FIX(k0=log(1e-3, 1))', n: 0}", "n = 0"),
        ("policies={sampel: 'FIX(0.1)', n: 1}", "unknown key 'sampel': did you mean 'sample'"),
        ("seeds=0", "seeds = 0"),
        ("grid={training.batch: [1]}", "did you mean 'batch_size'"),
        ("grid={data.name: [mnist]}", "'data.name' cannot vary"),
        ("grid={training.batch_size: []}", "training.batch_size is empty"),
        ("training=[", "not YAML"),
        ("training.epochs", "is not an override"),
        ("training.epochs.x=3", "training.epochs.x|epochs is 4"),
        ("name=../escape", "name = "),
    ],
)
def test_errors(override, message):
    with pytest.raises(UserError, match=message):
        load_config(tiny_config(), [override])


def test_file_errors(tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere.yaml: cannot be read"):
        load_config(tmp_path / "nowhere.yaml")
    path = tmp_path / "x.yaml"
    for text, message in (
        ("- a\n- b\n", "a configuration is a mapping"),
        ("a: [1\n", "not YAML.*line"),
        ("name: a\nname: b\n", "not YAML.*name"),
        ("name: a\n", "data is missing"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            load_config(path)
