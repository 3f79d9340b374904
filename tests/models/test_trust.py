"""Whose models are built: lrensemble's, installed packages', a user's own where they say so, and how large."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lrensemble import Ensemble, Pool, UserError, export_team, load_config, plugins, select_teams, train_pool
from lrensemble.cli.main import main
from lrensemble.evaluation.network import load_network
from lrensemble.models import MemoryLimit, build_model
from lrensemble.pool import MemberSpec
from tests.conftest import tiny_config

EVIL = "from pathlib import Path\nPath(__file__).with_name('executed').touch()\ndef net(**keywords): raise SystemExit\n"


def named(pool: Pool, name: str, training: dict[str, Any] | None = None, **parameters: object) -> Pool:
    """All records name another model, in folders of the right names and without a hash (as older ones)."""
    for member in pool.members:
        record = json.loads(member.record_path.read_text())
        record.pop("sha256", None)
        record["spec"]["model"] = {"name": name, **parameters}
        record["spec"]["training"] |= training or {}
        record["id"] = MemberSpec.model_validate(record["spec"]).id(pool.task.data_fingerprint)
        if record["metrics"]:
            record["metrics"]["val"]["accuracy"] = 1.0
        member.record_path.write_text(json.dumps(record))
        member.path.rename(member.path.with_name(record["id"]))
    return Pool.open(pool.path)


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the current folder, and the file that it writes when it is imported."""
    (tmp_path / "evil_models.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "executed"


@pytest.mark.parametrize("name", ["evil_models:net", "torch.hub:load", "os:system"])
@pytest.mark.parametrize("command", ["export", "robustness", "lr", "soup"])
def test_a_record_that_names_code(pool: Pool, evil: Path, capsys, name, command):
    named(pool, name, {"shared_init": True})
    select_teams(Pool.open(pool.path), ["all"])
    arguments = {
        "export": ["export", str(pool.path), "all", "-o", "team"],
        "robustness": ["robustness", str(pool.path)],
        "lr": ["robustness", str(pool.path), "--lr-scales"],
        "soup": ["soup", str(pool.path)],
    }[command]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"model {name} is not built" in line
    assert "--trust" in line
    files = {"evil_models:net": "evil_models.py", "torch.hub:load": "torch/hub.py", "os:system": "of the module os:"}
    assert files[name] in line
    assert not evil.exists()
    assert "evil_models" not in sys.modules


def test_a_card_that_names_code(evil: Path, tmp_path, pool: Pool, capsys):
    select_teams(pool, ["all"])
    export_team(pool, "all", tmp_path / "team", formats=["safetensors"], benchmark=False, check=False)
    card = json.loads((tmp_path / "team" / "team.json").read_text())
    for one in card["members"]:
        one["model"] = {"name": "evil_models:net"}
    (tmp_path / "team" / "team.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"runs net of .*evil_models\.py: read that file, then add --trust"):
        Ensemble.load(tmp_path / "team")
    assert main(["predict", str(tmp_path / "team"), "x.png"]) == 2
    assert "--trust" in capsys.readouterr().err
    assert not evil.exists()


def asked(pool: Pool, *more: str) -> int:
    return main(["verify", "FIX(0.1)", str(pool.path), "--target", "0.99", "--budget", "1e", "--device", "cpu", *more])


@pytest.mark.parametrize("what", ["model", "data"])
@pytest.mark.parametrize("name", ["evil_models:net", "torch.hub:load"])
def test_the_configuration_inside_of_a_pool_is_no_more_than_its_records(pool: Pool, evil: Path, capsys, name, what):
    file = pool.path / "config.json"
    config = {**json.loads(file.read_text()), what: {"name": name}, "engine": {"compile": "max-autotune"}}
    file.write_text(json.dumps(config))
    before = sorted(pool.path.rglob("*"))
    assert asked(pool) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{what.replace('data', 'task')} {name} is not built" in line and "--trust" in line
    assert not evil.exists()
    assert sorted(pool.path.rglob("*")) == before
    if name.startswith("evil"):
        with pytest.raises(SystemExit):
            asked(pool, "--trust")
        assert evil.exists()
        del sys.modules["evil_models"]


@pytest.mark.parametrize("hidden", [[10**6, 10**6], pytest.param([1] * 500_000, marks=pytest.mark.slow)])
def test_the_configuration_inside_of_a_pool_takes_no_memory_that_nobody_asked_for(hidden, pool: Pool, capsys):
    file = pool.path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model": {"name": "mlp", "hidden": hidden}}))
    assert asked(pool) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "takes more than 1,073,741,824 bytes" in line or line.endswith("characters)")
    assert len(line) < 11_000


def test_train_builds_what_the_configuration_names(tmp_path, evil):
    """A record under a planned id, and the best member that the control is made of, may be anybody's."""
    config = load_config(tiny_config(policies=["FIX(0.05)"], control=True))
    pool = train_pool(config, tmp_path / "pool", workers=1, devices="cpu", control=False)
    named(pool, "evil_models:net")
    with pytest.raises(UserError, match="is of the model evil_models:net, which is not in the configuration"):
        train_pool(config, tmp_path / "pool", workers=1, devices="cpu")
    assert not evil.exists()


def test_trusted_models_come_from_the_current_folder_last(tmp_path, monkeypatch):
    text = "from torch import nn\ndef net(input_shape, num_classes): return nn.Linear(3, num_classes)\n"
    for name in ("own_model_for_this_test.py", "colorsys.py"):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    before = list(sys.path)
    model = build_model("own_model_for_this_test:net", input_shape=(3, 1, 1), num_classes=2, trust=True)
    assert isinstance(model, nn.Linear)
    assert sys.path == before
    with pytest.raises(UserError, match=r"model colorsys:net: .*Known"):  # Python's own
        build_model("colorsys:net", input_shape=(3, 1, 1), num_classes=2, trust=True)


def test_python_m_does_not_import_from_the_current_folder(tmp_path):
    for name in ("rich", "torch", "pydantic", "yaml"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('executed')")
    found = subprocess.run(
        [sys.executable, "-m", "lrensemble", "ls", "nowhere"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert "executed" not in found.stderr


# Installed packages


def test_entry_points(monkeypatch, own_names):
    def offered(*values: str) -> None:
        points = [EntryPoint("mine", value, "lrensemble.models") for value in values]
        monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "lrensemble.models" else [])
        plugins._points.cache_clear()

    offered("lrensemble.models.mlp:mlp")
    model = build_model("mine", input_shape=(1, 8, 8), num_classes=3, parameters={"hidden": [5]})
    assert [tuple(p.shape) for p in model.parameters()] == [(5, 64), (5,), (3, 5), (3,)]
    with pytest.raises(UserError, match=r"did you mean 'mine'"):
        build_model("minee", input_shape=(1, 8, 8), num_classes=3)
    offered("lrensemble.models.mlp:mlp", "lrensemble.models.caffe:lenet")
    with pytest.raises(UserError, match=r"offered by two packages, .*mlp:mlp.* and .*caffe:lenet"):
        build_model("mine", input_shape=(1, 8, 8), num_classes=3)


# Parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("torchvision:resnet18", {"pretrained": True}),
        ("torchvision:resnet18", {"weights_backbone": "DEFAULT"}),
        ("timm:test_vit", {"checkpoint_path": "evil.pth"}),
        ("timm:test_vit", {"pretrained_cfg": {"file": "evil.pth"}}),
        ("timm:test_vit", {"pretrained_cfg_overlay": {"hf_hub_id": "a/b"}}),
        ("timm:test_vit", {"cache_dir": "/tmp"}),
        ("timm:test_vit", {"features_only": True}),
    ],
)
def test_parameters_that_fetch_or_unpickle_weights(name, parameters, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("it reads a file"))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("it downloads"))
    if name.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(UserError, match=f"model {name}: {next(iter(parameters))} is not possible"):
        build_model(name, input_shape=(3, 32, 32), num_classes=3, parameters=parameters)


@pytest.mark.parametrize("name", ["timm:hf_hub:somebody/model", "timm:hf-hub:a/b", "timm:local-dir:/tmp"])
def test_names_that_are_places(name):
    pytest.importorskip("timm")
    with pytest.raises(UserError, match="unknown"):
        build_model(name, input_shape=(3, 32, 32), num_classes=3)


def test_the_task_is_no_parameter():
    with pytest.raises(UserError, match="num_classes is given by the data"):
        build_model("mlp", input_shape=(1, 8, 8), num_classes=3, parameters={"num_classes": 5})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mlp", {"hidden": [10**9]}),
        ("mlp", {"hidden": [10**5, 10**5]}),
        ("lenet", {"channels": [10**6, 10**6]}),
        ("fastcnn", {"width": 1e4}),
        ("resnet20", {"depth": 6 * 10**9 + 2}),
        ("torchvision:vit_b_32", {"image_size": 32 * 10**5}),
        ("timm:test_vit", {"img_size": 16 * 10**5}),
    ],
)
def test_models_of_more_memory_than_their_weights(name, parameters):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(UserError, match=r"needs far more memory than its weights, 1,000 bytes: not built"):
        build_model(name, input_shape=(3, 32, 32), num_classes=3, parameters=parameters, weight_bytes=1000)


def test_a_record_of_a_huge_model(pool: Pool):
    named(pool, "mlp", hidden=[10**9])
    with pytest.raises(UserError, match="needs far more memory than its weights"):
        load_network(pool, Pool.open(pool.path).members[0])
    named(Pool.open(pool.path), "mlp", hidden=[17])
    with pytest.raises(UserError, match=r"its weights do not fit the model mlp\(hidden=\[17\]\)"):
        load_network(pool, Pool.open(pool.path).members[0])


def test_memory_that_is_freed_does_not_count():
    limit = MemoryLimit(10_000_000, "too much")
    with limit:
        x = torch.zeros(1_000_000)
        for _ in range(10):
            x = x + 1
        x.add_(1)
        views = [x[i:] for i in range(10)]
    assert limit.used == 4_000_000
    del views
    with pytest.raises(UserError, match="too much"), MemoryLimit(10_000_000, "too much"):
        torch.randn(10**12)
    with pytest.raises(UserError, match="too much"), MemoryLimit(10_000_000, "too much"):
        _ = [torch.zeros(1_000_000) for _ in range(3)]
