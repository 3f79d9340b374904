"""How far do a stack and a run alone part, and would they without a stack?

A small MLP on digits, by every optimizer of torch.optim, at a usual LR and at ten times that, after 1, 10, 100, 1000
steps: the largest difference of a weight, relative to the largest weight. Beside it the same for a run alone whose
first weights are off by half a unit in their last place: what rounding grows to whoever computes, on another processor
too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lrensemble import load_config, load_task
from lrensemble.tasks.rows import DeviceData
from lrensemble.training.loop import Run, fit
from lrensemble.training.stack import fit_stack

STEPS = (1, 10, 100, 1000)
USUAL = {  # LRs that train the network (Muon takes no biases, LBFGS is never stacked)
    "SGD": 0.05, "SGD, momentum 0.9": 0.05, "ASGD": 0.05, "Adadelta": 1.0, "Adagrad": 0.01, "Adafactor": 0.01,
    "Adam": 0.001, "AdamW": 0.001, "Adamax": 0.002, "NAdam": 0.002, "RAdam": 0.001, "Rprop": 0.001,
    "RMSprop": 0.001, "RMSprop, centered": 0.001, "RMSprop, momentum 0.9": 0.001,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {"momentum 0.9": {"momentum": 0.9}, "centered": {"centered": True}}
HALF_A_UNIT = 2.0**-24


def weights(run: Run) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.parameters])


def paths(specs: list[Any], data: DeviceData, *, stacked: bool = False, noise: float = 0.0) -> Tensor:
    """Weights of every run after every step: (K, steps, weights)."""
    runs = [Run(spec, f"run{i}", data) for i, spec in enumerate(specs)]
    found: list[list[Tensor]] = [[] for _ in runs]
    generator = torch.Generator().manual_seed(0)
    for run, path in zip(runs, found, strict=True):
        for parameter in run.parameters:
            parameter.data *= 1 + noise * (2 * torch.rand(parameter.shape, generator=generator) - 1)

        def after_step(run: Run = run, path: list[Tensor] = path, step: Any = run.after_step) -> None:
            step()
            path.append(weights(run).clone())

        run.after_step = after_step  # type: ignore[method-assign]
    if stacked:
        fit_stack(runs, ended=lambda run, outcome: None)
    else:
        for run in runs:
            fit(run)
    return torch.stack([torch.stack(path[: STEPS[-1]]) for path in found])


def apart(a: Tensor, b: Tensor) -> list[float]:
    difference = (a - b).abs().amax(2) / b.abs().amax(2)
    return [float(difference[:, step - 1].max()) for step in STEPS]


def measure(data: DeviceData) -> list[dict[str, Any]]:
    rows = []
    for name, usual in USUAL.items():
        kind, _, option = name.partition(", ")
        optimizer = {"name": kind, **OPTIONS.get(option, {})}
        for lr in (usual, 10 * usual):
            training = {"epochs": 56, "batch_size": 64}
            config = {"name": "stack", "data": {"name": "digits"}, "model": {"name": "mlp", "hidden": [32]}}
            more = {"optimizer": optimizer, "training": training, "seeds": 2, "policies": [f"FIX(k0={lr:g})"]}
            specs = load_config({**config, **more}).specs()
            alone = paths(specs, data)
            rows.append(
                {
                    "optimizer": name,
                    "lr": lr,
                    "stack": apart(paths(specs, data, stacked=True), alone),
                    "rounding": apart(paths(specs, data, noise=HALF_A_UNIT), alone),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(DeviceData.of(load_task("digits"), torch.device("cpu")))
    capability = torch.backends.cpu.get_cpu_capability()
    table = Table(title=f"Largest relative difference of a weight, torch {torch.__version__}, {capability}")
    for column in ("optimizer", "LR", *(f"{what}, {n}" for what in ("stack", "rounding") for n in STEPS)):
        table.add_column(column, justify="left" if column == "optimizer" else "right")
    for row in rows:
        table.add_row(row["optimizer"], f"{row['lr']:g}", *(f"{x:.0e}" for x in row["stack"] + row["rounding"]))
    Console(width=140).print(table)
    if args.json:
        args.json.write_text(json.dumps({"torch": torch.__version__, "capability": capability, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
