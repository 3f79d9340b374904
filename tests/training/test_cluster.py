"""A cluster of three nodes on this machine, whose workers and nodes die. Minutes: run with -m slow."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from lrensemble import Pool, load_config, train_pool
from lrensemble.training.on_ray import _LOCAL
from tests.conftest import PATIENCE, tiny_config
from tests.training.test_runner import contents

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'lrensemble[ray]'"),
]
RUNS = 24
CLUSTER = """
import functools, inspect, socket, sys
from pathlib import Path
from ray._private import services
from ray.cluster_utils import Cluster

def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]

# A node gives up after 15 s in which its agent has not said which ports it took, on a busy machine most do: all ports
# are given, and the one that it has no option for (none, -1) is written where the agent will write it.
start = services.start_raylet

@functools.wraps(start)
def start_at_once(*args, **options):
    given = inspect.signature(start).bind(*args, **options).arguments
    (Path(given["session_dir"]) / f"dashboard_agent_listen_port_{given['node_id']}").write_text("-1")
    return start(*args, **options)

services.start_raylet = start_at_once

def add(**more):
    names = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")
    return cluster.add_node(num_cpus=1, **{name: port() for name in names}, **more)

cluster, client = Cluster(), port()
add(ray_client_server_port=client, include_dashboard=False)
nodes = [add(), add()]
print("ready", client, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Token authentication, and everything on the loopback device."""
    path = os.pathsep.join(p or os.getcwd() for p in sys.path)  # noqa: PTH109
    switches = {**_LOCAL, "RAY_raylet_start_wait_time_s": str(PATIENCE), "RAY_AUTH_TOKEN": "a" * 40}
    return {**os.environ, **switches, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def cluster(environment):
    """Address of a cluster of three nodes, and the process that kills one of them for every line it is given."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", CLUSTER], env=environment, start_new_session=True, **pipes)
    try:
        ready = next((line for line in iter(process.stdout.readline, "") if line.startswith("ready")), "")
        assert ready, "no cluster came up"
        yield f"ray://127.0.0.1:{ready.split()[1]}", process
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                child.kill()
        process.communicate()


def train(folder: Path, address: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    words = ["train", str(folder / "c.yaml"), "--pool", str(folder / "p"), "--on", address, "--threads", "1"]
    return subprocess.Popen(
        [sys.executable, "-m", "lrensemble", *words],
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def workers_at_work() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "ray::train_remotely" in (p.info["cmdline"] or [""])[0]]


def test_every_member_once_whatever_dies(tmp_path: Path, cluster, environment):
    """Two drivers, 24 runs; workers die at random, then a node: the pool is the one of this machine alone."""
    address, killer = cluster
    training = {"epochs": 30, "batch_size": 16}
    policies = [f"FIX(k0={0.01 * (i + 1):g})" for i in range(RUNS)]
    config = load_config(tiny_config(policies=policies, training=training, control=False))
    (tmp_path / "c.yaml").write_text(config.model_dump_json())
    drivers = [train(tmp_path, address, environment) for _ in range(2)]
    draw, killed, node, began = random.Random(0), 0, False, time.monotonic()
    while any(driver.poll() is None for driver in drivers) and time.monotonic() - began < 4 * PATIENCE:
        time.sleep(draw.uniform(3, 8))
        done = sum(b'"complete"' in p.read_bytes() for p in (tmp_path / "p").glob("members/*/record.json"))
        if killed < 4 and done > 0 and (workers := workers_at_work()):
            draw.choice(workers).kill()
            killed += 1
        if done > RUNS // 3 and not node:
            print("kill", file=killer.stdin, flush=True)
            assert killer.stdout.readline() == "killed\n"
            node = True
    errors = [driver.communicate()[1] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], errors
    assert killed and node
    pool = Pool.open(tmp_path / "p")
    assert [member.status for member in pool.members] == ["complete"] * RUNS
    lines = [line for text in errors for line in text.splitlines() if "validation accuracy" in line]
    assert len(lines) >= RUNS
    alone = train_pool(config, tmp_path / "alone", workers=1, threads=1, devices="cpu")
    assert contents(pool.path) == contents(alone.path)
    assert not [path for path in pool.path.rglob("*") if path.name.startswith(".") or path.name == "state.pt"]


def test_ctrl_c_leaves_nothing_running(tmp_path: Path, cluster, environment):
    address, _ = cluster
    config = load_config(tiny_config(training={"epochs": 100_000, "batch_size": 16}, control=False))
    (tmp_path / "c.yaml").write_text(config.model_dump_json())
    driver = train(tmp_path, address, environment)
    began = time.monotonic()
    while len(list((tmp_path / "p").glob("members/*/history.jsonl"))) < 2 and time.monotonic() - began < PATIENCE:
        time.sleep(1)
    assert workers_at_work()
    driver.send_signal(signal.SIGINT)
    err = driver.communicate(timeout=PATIENCE)[1]
    assert driver.returncode == 130 and err.splitlines()[-1].startswith("stopped: everything finished is kept")
    began = time.monotonic()
    while workers_at_work() and time.monotonic() - began < 60:
        time.sleep(1)
    assert not workers_at_work()
    pool = Pool.open(tmp_path / "p")
    assert {member.status for member in pool.members} == {"planned"}
    assert not list(pool.path.glob(".on-*"))
