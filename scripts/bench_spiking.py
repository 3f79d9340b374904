"""Training steps of CarSNN (forward, loss, backward), the same network in five implementations, in one run.

Every implementation has the same weights, calibrated to fire; 40 frames, each shown for 20 steps; surrogate atan, as
all libraries have it. Times are CPU seconds of one thread, the least of some rounds, in which all take turns. The step
loop is what the method's papers publish: a Python loop over the steps through all layers, gradients by autograd.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
from lrensemble.models.spiking import carsnn
from lrensemble.tasks.events import read_events, write_events
from lrensemble.tasks.events.recording import recording

SIZES = {50: (2, 2.0), 34: (10, 2.5)}  # pixels -> classes, and how many times the step loop's speed is wanted
PEER_LIMIT, EVENTS_LIMIT = 1.5, 5e6
STEPS, BATCH, DECAY, THRESHOLD = 20, 40, 0.2, 0.4
PEERS = ("snntorch", "spikingjelly")
PACKAGES = (*PEERS, "loguru")  # what they need beside torch and what this environment has


class Atan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return grad / (1 + (torch.pi * v) ** 2)


class Loop(nn.Module):
    """One neuron's step; the state is reset before every batch."""

    def forward(self, current: Tensor) -> Tensor:
        self.u = DECAY * self.u * (1 - self.s) + current
        self.s = Atan.apply(self.u - THRESHOLD)
        return self.s

    def reset(self) -> None:
        self.u = self.s = 0.0


def stepwise(net: Any, neurons: list[nn.Module], reset: Callable[[], object]) -> Callable[[Tensor], Tensor]:
    """The network of single-step neurons."""
    synapses = [net.conv1.synapses, net.conv2.synapses, net.fc1.synapses, net.fc2.synapses]

    def run(x: Tensor) -> Tensor:
        reset()
        out: Any = 0.0
        for t in range(x.shape[1]):
            signal = F.avg_pool2d(x[:, t], 4)
            for i, (synapse, neuron) in enumerate(zip(synapses, neurons, strict=True)):
                signal = neuron(synapse(signal))
                signal = F.avg_pool2d(signal, 2) if i < 2 else signal
                signal = signal.flatten(1) if i == 1 else signal
            out = out + signal
        return out / x.shape[1]

    return run


def snntorch(net: Any) -> dict[str, Callable[[Tensor], Tensor]]:
    import snntorch as snn
    from snntorch import surrogate

    options = {"beta": DECAY, "threshold": THRESHOLD, "init_hidden": True, "reset_mechanism": "zero"}
    neurons = [snn.Leaky(**options, spike_grad=surrogate.atan()) for _ in range(4)]
    return {"snnTorch": stepwise(net, neurons, lambda: [neuron.reset_mem() for neuron in neurons])}


def spikingjelly(net: Any) -> dict[str, Callable[[Tensor], Tensor]]:
    from spikingjelly.activation_based import neuron, surrogate

    def neurons(mode: str) -> list[nn.Module]:
        options = {"tau": 1 / (1 - DECAY), "decay_input": False, "v_threshold": THRESHOLD, "v_reset": 0.0}
        return [neuron.LIFNode(**options, surrogate_function=surrogate.ATan(), step_mode=mode) for _ in range(4)]

    single, multi = neurons("s"), neurons("m")
    synapses = [net.conv1.synapses, net.conv2.synapses, net.fc1.synapses, net.fc2.synapses]

    def layer_by_layer(x: Tensor) -> Tensor:
        for one in multi:
            one.reset()
        steps, rows = x.shape[1], len(x)
        signal = F.avg_pool2d(x.transpose(0, 1).flatten(0, 1), 4)
        for i, (synapse, one) in enumerate(zip(synapses, multi, strict=True)):
            signal = one(synapse(signal).unflatten(0, (steps, rows))).flatten(0, 1)
            signal = F.avg_pool2d(signal, 2) if i < 2 else signal
            signal = signal.flatten(1) if i == 1 else signal
        return signal.unflatten(0, (steps, rows)).mean(0)

    return {
        "SpikingJelly, steps": stepwise(net, single, lambda: [one.reset() for one in single]),
        "SpikingJelly, layers": layer_by_layer,
    }


def networks(side: int, rounds: int) -> list[dict[str, Any]]:
    classes, limit = SIZES[side]
    torch.manual_seed(0)
    net: Any = carsnn(input_shape=(STEPS, 2, side, side), num_classes=classes, surrogate="atan")
    x = torch.poisson(torch.full((BATCH, 1, 2, side, side), 0.1)).expand(-1, STEPS, -1, -1, -1)
    net.calibrate(lambda model: model(x))
    wanted = F.one_hot(torch.arange(BATCH) % classes).float()
    loops = [Loop() for _ in range(4)]
    jobs = {"lrensemble": net, "step loop": stepwise(net, loops, lambda: [one.reset() for one in loops])}
    missing = []
    for name in PEERS:
        try:
            jobs |= globals()[name](net)
        except ImportError:
            missing.append(name)

    def step(job: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        net.zero_grad()
        out = job(x)
        ((out - wanted) ** 2).mean().backward()
        return out.detach(), torch.cat([p.grad.flatten() for p in net.parameters()])

    results = {name: step(job) for name, job in jobs.items()}
    seconds = dict.fromkeys(jobs, float("inf"))
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.process_time()
            step(job)
            seconds[name] = min(seconds[name], time.process_time() - start)
    out, grad = results["step loop"]
    rows = []
    for name in jobs:
        ratio = seconds[name] / seconds["lrensemble"]
        rows.append({
            "job": f"{side}x{side}, T = {STEPS}", "who": name, "ms": 1000 * seconds[name], "ours_faster": ratio,
            "limit": limit if name == "step loop" else None if name == "lrensemble" else PEER_LIMIT,
            "outputs_differ": float((results[name][0] - out).abs().max()),
            "gradients_differ": float((results[name][1] - grad).norm() / grad.norm()),
        })  # fmt: skip
    for name in missing:
        print(f"{name} is not installed: --peers FOLDER", file=sys.stderr)
    return rows


def events(count: int, rounds: int) -> list[dict[str, Any]]:
    """Reading and writing, in events a second of wall time."""
    rng = np.random.default_rng(0)
    t = np.cumsum(rng.integers(0, 3, count))
    many = recording(t, rng.integers(0, 240, count), rng.integers(0, 180, count), rng.integers(0, 2, count), where="")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".dat", ".bin"):
            path = Path(folder, f"a{suffix}")
            for what, job in (("write", lambda: write_events(path, many)), ("read", lambda: read_events(path))):  # noqa: B023
                best = float("inf")
                for _ in range(rounds):
                    start = time.perf_counter()
                    job()
                    best = min(best, time.perf_counter() - start)
                limit = EVENTS_LIMIT if (suffix, what) == (".dat", "read") else None
                rows.append({"job": f"{what} {suffix}", "events": count, "per_second": count / best, "limit": limit})
    return rows


def with_peers(folder: Path) -> None:
    """Go on in an environment with the other libraries, on the torch of this one: all else is equal."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder)
        packages = next((folder / "lib").iterdir()) / "site-packages"
        (packages / "shared.pth").write_text("\n".join(p for p in sys.path if p.endswith("-packages")) + "\n")
        uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*uv, "--python", str(python), *PACKAGES], check=True)
    words = [word for i, word in enumerate(sys.argv) if "--peers" not in (word, sys.argv[i - 1])]
    os.execv(python, [str(python), *words])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="FOLDER", type=Path, help="a virtual environment with the other libraries")
    parser.add_argument("--rounds", metavar="N", type=int, default=10)
    parser.add_argument("--events", metavar="N", type=int, default=5_000_000)
    parser.add_argument("--json", metavar="FILE", type=Path)
    args = parser.parse_args()
    if args.peers:
        with_peers(args.peers)
    torch.set_num_threads(1)
    steps = [row for side in SIZES for row in networks(side, args.rounds)]
    files = events(args.events, min(args.rounds, 5))
    table = Table(title=f"CarSNN, one training step of {BATCH} frames, CPU ms of one thread")
    for name in ("network", "implementation", "ms", "ours is faster", "wanted", "outputs differ", "gradients differ"):
        table.add_column(name, justify="left" if name in ("network", "implementation") else "right")
    for row in steps:
        limit = "" if row["limit"] is None else f"{row['limit']:.1f}"
        table.add_row(row["job"], row["who"], f"{row['ms']:.1f}", f"{row['ours_faster']:.2f}x", limit,
                      f"{row['outputs_differ']:.1g}", f"{row['gradients_differ']:.1g}")  # fmt: skip
    Console(width=140).print(table)
    for row in files:
        limit = "" if row["limit"] is None else f" (wanted: {row['limit'] / 1e6:.0f})"
        print(f"{row['job']}: {row['per_second'] / 1e6:.1f} million events a second{limit}")
    if args.json:
        facts = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
        args.json.write_text(json.dumps({**facts, "networks": steps, "events": files}, indent=2))


if __name__ == "__main__":
    main()
