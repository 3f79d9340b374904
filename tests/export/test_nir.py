"""Teams of spiking networks: exported as torch, ONNX and NIR, and what the files compute against what is stored."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lrensemble import Ensemble, Pool, UserError, export_team, load_config, select_teams, train_pool
from lrensemble.cli.main import main
from lrensemble.evaluation.network import load_data
from lrensemble.export import nir_file
from lrensemble.export.nir_file import NIR
from lrensemble.models.spiking import carsnn, event_resnet
from lrensemble.tasks.events import write_events
from tests.export.test_write import stored
from tests.tasks.events.files import bars_file

nir = pytest.importorskip("nir")
FORMATS = ["torch", NIR]


def spiking_pool(folder, protocol, model):
    data = {"name": "events", "root": str(bars_file(folder / "bars.npz")), "val_fraction": 0.2, "bins": 5}
    data |= {"protocol": protocol, "crops": 2, **({"steps": 3} if protocol == "carsnn" else {})}
    config = {"name": "bars", "model": {"name": model}, "optimizer": {"name": "Adam"}, "policies": ["FIX(k0=3e-3)"]}
    config |= {"training": {"epochs": 2, "batch_size": 20}, "seeds": [0, 1], "data": data}
    pool = train_pool(load_config(config), folder / "pool", workers=1, threads=1, devices="cpu")
    select_teams(pool, ["all"])
    return pool


@pytest.fixture(scope="module")
def spiking(tmp_path_factory) -> Pool:
    return spiking_pool(tmp_path_factory.mktemp("spiking"), "sequence", "carsnn")


def test_a_team_of_recordings_is_exported_and_reads_them(spiking, tmp_path, capsys):
    card = export_team(spiking, "all", tmp_path / "team", formats=FORMATS, benchmark=False)
    rows = spiking.task.rows["test"]
    assert {name: check.rows for name, check in card.checks.items()} == dict.fromkeys(FORMATS, rows)
    assert max(check.largest_difference for check in card.checks.values()) < 1e-5
    assert set(card.files) == {"team.pt2", *(f"{i}.nir" for i in spiking.team("all").members)}
    # A recording as a file of a camera is the row that was made of it.
    task = load_data(spiking)
    for row in range(2):
        write_events(tmp_path / f"{row}.bin", task._tested[row])
    capsys.readouterr()
    files = [str(tmp_path / f"{row}.bin") for row in range(2)]
    assert main(["predict", str(tmp_path / "team"), *files, "--format", "json"]) == 0
    answers = json.loads(capsys.readouterr().out)["predictions"]
    wanted = stored(spiking, "all")[:2].max(1)
    assert [answer["confidence"] for answer in answers] == pytest.approx(wanted.tolist(), abs=1e-5)
    readme = (tmp_path / "team" / "README.md").read_text()
    assert "one time step, of 0.02 s" in readme and "2 crops of 5 frames" in readme
    with pytest.raises(UserError, match="no team as safetensors"):
        Ensemble.load(tmp_path / "team", format="safetensors")


def test_frames_that_vote_are_exported_too(tmp_path):
    pool = spiking_pool(tmp_path, "carsnn", "event_resnet")
    card = export_team(pool, "all", tmp_path / "team", formats=["torch", NIR], benchmark=False)
    assert max(check.largest_difference for check in card.checks.values()) < 1e-5
    assert nir.read(next((tmp_path / "team").glob("*.nir"))).metadata["dt"] == pytest.approx(0.02 / 3)


@pytest.mark.parametrize("builder", [carsnn, event_resnet])
def test_a_graph_says_what_the_network_does(builder, tmp_path):
    """Executed by NIR's equations; and the graph's own numbers."""
    torch.manual_seed(0)
    net = builder(input_shape=(4, 2, 35, 50), num_classes=3, decay=0.25).eval()
    x = torch.poisson(torch.full((3, 4, 2, 35, 50), 0.5))
    net.calibrate(lambda model: model(x))
    nir_file.write_nir(net, tmp_path / "net.nir", shape=(2, 35, 50), dt=0.01, about={"bins": 4})
    with torch.no_grad():
        rates = net(x)
        assert torch.equal(nir_file.NirModel(tmp_path / "net.nir")(x), rates) and 0.02 < rates.mean() < 0.5
    graph = nir.read(tmp_path / "net.nir")
    assert graph.metadata["bins"] == 4 and graph.input_type["input"].tolist() == [2, 35, 50]
    neurons = [node for node in graph.nodes.values() if type(node).__name__ == "LIF"]
    assert len(neurons) == sum(type(module).__name__ == "LIF" for module in net.modules())
    for node in neurons:  # one step of Euler is u = 0.25 u + I
        assert np.allclose(1 - 0.01 / node.tau, 0.25) and np.allclose(0.01 / node.tau * node.r, 1)
        assert (node.v_threshold == 0.4).all() and not node.v_reset.any() and not node.v_leak.any()


def test_a_file_that_computes_something_else_is_not_left(spiking, tmp_path, monkeypatch):
    lif = nir_file._lif

    def wrong(module, layer, shape, dt):
        node = lif(module, layer, shape, dt)
        node.v_threshold = node.v_threshold * 1.5
        return node

    monkeypatch.setattr(nir_file, "_lif", wrong)
    with pytest.raises(UserError, match="outputs differ from the stored predictions"):
        export_team(spiking, "all", tmp_path / "team", formats=[NIR], benchmark=False)
    assert not (tmp_path / "team").exists()


def test_what_is_no_spiking_network_has_no_nir(shipped, tmp_path, capsys, monkeypatch):
    pool, _ = shipped
    assert main(["export", str(pool.path), "all-weighted", "-o", str(tmp_path / "team"), "--as", "nir"]) == 2
    error = capsys.readouterr().err
    assert "NIR holds spiking networks, and the model" in error and error.count("\n") == 1
    assert not (tmp_path / "team").exists()
    monkeypatch.setitem(__import__("sys").modules, "nir", None)
    with pytest.raises(UserError, match="export --as nir needs nir: "):
        export_team(pool, "all-weighted", tmp_path / "team", formats=[NIR])
