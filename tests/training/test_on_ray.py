"""Pools trained by a Ray of two workers on this machine: the same bits, whatever dies."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch

from lrensemble import Pool, Ray, UserError, load_config, make_plan, run_rounds, train_pool, verify
from lrensemble.cli.main import main
from lrensemble.pool.files import write_bytes
from lrensemble.recommend.rounds import Limits
from lrensemble.training import on_ray
from tests.conftest import tiny_config
from tests.training.test_runner import contents

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'lrensemble[ray]'")


@pytest.fixture(scope="module", autouse=True)
def one_ray():
    """Connected once for all tests here, as a program does it; with two CPUs whatever the machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_ray.joblib, "cpu_count", lambda: 2)
        ray = Ray()._connected()
        yield
    ray.shutdown()


def test_a_pool_is_the_local_one_to_the_bit(config, trained: Path, tmp_path: Path):
    pool = train_pool(config, tmp_path / "p", on=Ray(), threads=1)
    assert contents(pool.path) == contents(trained)
    assert {m.record.environment["threads"] for m in pool.complete} == {1}
    assert not [path for path in pool.path.rglob("*") if path.name.startswith(".")]


def test_it_listens_on_the_loopback_device_alone():
    ours = {process.pid for process in psutil.Process().children(recursive=True)} | {os.getpid()}
    ours |= {p.pid for p in psutil.process_iter(["name"]) if p.info["name"] in ("raylet", "gcs_server")}
    listening = [c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.pid in ours]
    assert listening and {ip.removeprefix("::ffff:") for ip in listening} <= {"127.0.0.1", "::1"}
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_members_are_sent_where_the_folder_is_not_seen(config, trained: Path, tmp_path: Path, monkeypatch):
    def without_mark(path, data):
        if not path.name.startswith(".on-"):
            write_bytes(path, data)

    monkeypatch.setattr("lrensemble.training.remote.write_bytes", without_mark)
    with pytest.warns(UserWarning, match="does not see .*: its members are sent"):
        pool = train_pool(config, tmp_path / "p", on=Ray(), threads=1, control=False)
    expected = {name: data for name, data in contents(trained).items() if not name.startswith("control")}
    assert contents(pool.path) == expected
    assert [m.history()[-1]["epoch"] for m in pool.complete] == [4] * 4


def kills_its_worker(*, input_shape, num_classes, folder, times):
    """A model that kills the process it is trained in, so many times."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))

    def forward(module, inputs):
        died = len(list(Path(folder).iterdir()))
        if inputs[0].shape[0] > 2 and died < times:
            (Path(folder) / str(died)).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    model.register_forward_pre_hook(forward)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("times", "status"), [(1, "complete"), (99, "failed")])
def test_a_worker_that_dies_is_tried_again(tmp_path: Path, times: int, status: str, monkeypatch):
    monkeypatch.setattr(on_ray, "RETRIES", 1)
    (tmp_path / "died").mkdir()
    model = {"name": "tests.training.test_on_ray:kills_its_worker", "folder": str(tmp_path / "died"), "times": times}
    config = load_config(tiny_config(model=model, policies=["FIX(0.1)"], control=False))
    pool = train_pool(config, tmp_path / "p", on=Ray(), threads=1)
    (member,) = pool.members
    assert member.status == status
    if status == "failed":
        assert "its worker died 2 times" in member.record.reason and "\n" not in member.record.reason


def test_another_version_on_a_worker_is_one_line(config, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(on_ray, "versions", lambda: {"lrensemble": "9.9", "torch": "9.9"})
    with pytest.raises(UserError, match=r"worker .* has lrensemble .* instead of 9\.9 and torch .*install the same"):
        train_pool(config, tmp_path / "p", on=Ray(), threads=1)
    pool = Pool.open(tmp_path / "p")
    assert {m.status for m in pool.members} == {"planned"} and not list(pool.path.glob(".on-*"))


def test_questions_train_there_too(tmp_path: Path):
    config = load_config(tiny_config(policies=["FIX(0.1)"], control=False))
    assert verify(config, "FIX(0.1)", 0.5, pool=tmp_path / "v", on=Ray(), threads=1).yes
    plan = make_plan(config, tmp_path / "r")
    assert run_rounds(plan, Limits(rounds=1), per_round=1, on=Ray(), threads=1) == "1 rounds"
    assert len(Pool.open(tmp_path / "r").complete) == 2


@pytest.mark.parametrize("command", ["train", "run", "verify", "fastest"])
def test_commands_take_an_engine(command, config, tmp_path: Path, capsys):
    """All say at once what is wrong with it, before anything is made."""
    (tmp_path / "c.yaml").write_text(config.model_dump_json())
    words = {"verify": ["verify", "FIX(0.1)", "--target", "0.5"]}.get(command, [command])
    assert main([*words, str(tmp_path / "c.yaml"), "--pool", str(tmp_path / "p"), "--on", "slurm"]) == 2
    assert capsys.readouterr().err.count("--on is ray") == 1
    assert not (tmp_path / "p").exists()


def test_what_no_node_has_is_said(config, tmp_path: Path):
    with pytest.raises(UserError, match="no node has CPU=1, unicorn=1, which a run needs"):
        train_pool(config, tmp_path / "p", on=Ray(resources={"unicorn": 1}), threads=1)
    with pytest.raises(UserError, match="per_device is of GPUs, and this cluster has none"):
        train_pool(config, tmp_path / "p", on=Ray(), per_device=2, devices="cpu")
    assert not (tmp_path / "p").exists()


class Own(torch.nn.Sequential):
    """Known by another name than it has: no other process can import it."""

    def __init__(self, *, input_shape, num_classes):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))


Own.__qualname__ = "somewhere.<locals>.Own"


def test_what_only_this_program_knows_is_not_sent(tmp_path: Path):
    config = load_config(tiny_config(policies=["FIX(0.1)"], model={}), model=Own)
    with pytest.raises(UserError, match="known to this process alone: leave on out"):
        train_pool(config, tmp_path / "p", on=Ray())


def test_a_ray_that_could_not_be_told_is_refused(monkeypatch):
    """Ray reads where it may listen when it is imported."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for name in on_ray._LOCAL:
        monkeypatch.delenv(name)
    with pytest.raises(UserError, match=r"Ray was imported before .*call ray\.init"):
        Ray()._connected()
