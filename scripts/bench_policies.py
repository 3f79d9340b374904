"""Speed of LR policies, each beside a peer measured in the same run.

- array: milliseconds for 10^6 steps as one array (limit: 50 ms), one core;
- call: one scalar call, against the bare formula written in Python floats (limit: 3x);
- torch: one scheduler step of ours against torch's own class for the same policy.
"""

from __future__ import annotations

import argparse
import json
import math
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.optim import lr_scheduler as torch_lr

from lrensemble.policies import FUNCTIONS, Policy

STEPS = 1_000_000
ARRAY_LIMIT_MS, CALL_LIMIT = 50.0, 3.0
PI = math.pi


def saw(t: float) -> float:
    return 1 - t % 500 / 500


# Policy -> the bare formula, as one would write it into a training loop.
BARE: dict[str, Callable[[float], float]] = {
    "FIX(0.1)": lambda t: 0.1,
    "STEP(0.1, 0.5, 500)": lambda t: 0.1 * 0.5 ** math.floor(t / 500),
    "NSTEP(0.1, 0.1, [300000, 600000])": lambda t: 0.1 * 0.1 ** ((t >= 300000) + (t >= 600000)),
    "EXP(0.1, 0.99999)": lambda t: 0.1 * 0.99999**t,
    "INV(0.1, 0.0001, 0.75)": lambda t: 0.1 * (1 + 0.0001 * t) ** -0.75,
    "POLY(0.1, 2, 1000000)": lambda t: 0.1 * (1 - t / 1000000) ** 2 if t < 1000000 else 0.0,
    "SIG(0.1, -0.0001, 500000)": lambda t: 0.1 / (1 + math.exp(0.0001 * (t - 500000))),
    "TRI(0.1, 0.01, 500)": lambda t: 0.09 * (2 / PI) * abs(math.asin(math.sin(PI * t / 1000))) + 0.01,
    "TRI2(0.1, 0.01, 500)": lambda t: (
        0.09 * (2 / PI) * abs(math.asin(math.sin(PI * t / 1000))) / 2 ** (t // 1000) + 0.01 if t < 1_000_000 else 0.01
    ),
    "TRIEXP(0.1, 0.01, 500, 0.99999)": lambda t: (
        0.09 * (2 / PI) * abs(math.asin(math.sin(PI * t / 1000))) * 0.99999**t + 0.01
    ),
    "SIN(0.1, 0.01, 500)": lambda t: 0.09 * abs(math.sin(PI * t / 1000)) + 0.01,
    "SINEXP(0.1, 0.01, 500, 0.99999)": lambda t: 0.09 * abs(math.sin(PI * t / 1000)) * 0.99999**t + 0.01,
    "COS(0.1, 0.01, 500)": lambda t: 0.09 * 0.5 * (1 + math.cos(PI * t / 500)) + 0.01,
    "COSEXP(0.1, 0.01, 500, 0.99999)": lambda t: 0.09 * 0.5 * (1 + math.cos(PI * t / 500)) * 0.99999**t + 0.01,
    "RSW(0.1, 0.01, 500)": lambda t: 0.09 * saw(t) + 0.01,
    "SINRSW(0.1, 0.01, 500)": lambda t: 0.09 * math.sin(PI / 2 * saw(t)) + 0.01,
    "COSRSW(0.1, 0.01, 500)": lambda t: 0.09 * 0.5 * (1 - math.cos(PI * saw(t))) + 0.01,
}
TORCH: dict[str, Callable[[Any], Any]] = {
    "STEP(0.1, 0.5, 500)": lambda o: torch_lr.StepLR(o, 500, 0.5),
    "NSTEP(0.1, 0.1, [300000, 600000])": lambda o: torch_lr.MultiStepLR(o, [300000, 600000]),
    "EXP(0.1, 0.99999)": lambda o: torch_lr.ExponentialLR(o, 0.99999),
    "POLY(0.1, 2, 1000000)": lambda o: torch_lr.PolynomialLR(o, 1000000, 2),
    "COS(0.1, 0.01, 500)": lambda o: torch_lr.CosineAnnealingLR(o, 500, 0.01),
    "TRI(0.1, 0.01, 500)": lambda o: torch_lr.CyclicLR(o, 0.01, 0.1, 500, cycle_momentum=False),
    "COSRSW(0.1, 0.01, 500)": lambda o: torch_lr.CosineAnnealingWarmRestarts(o, 500, 1, 0.01),
    "ONECYCLE(0.1, 1000000)": lambda o: torch_lr.OneCycleLR(o, 0.1, total_steps=1000000, cycle_momentum=False),
}
MORE = {  # array time for what has no one-line formula
    "DTRI(0.1, 0.01, 500)": "DTRI", "DTRI2(0.1, 0.01, 500)": "DTRI2", "DTRIEXP(0.1, 0.01, 500, 0.99999)": "DTRIEXP",
    "SIN2(0.1, 0.01, 500)": "SIN2", "DSIN(0.1, 0.01, 500)": "DSIN", "DSIN2(0.1, 0.01, 500)": "DSIN2",
    "DSINEXP(0.1, 0.01, 500, 0.99999)": "DSINEXP", "COS2(0.1, 0.01, 500)": "COS2", "UPCOS(0.1, 0.01, 500)": "UPCOS",
    "UPCOS2(0.1, 0.01, 500)": "UPCOS2", "UPCOSEXP(0.1, 0.01, 500, 0.99999)": "UPCOSEXP",
    "RSW2(0.1, 0.01, 500)": "RSW2", "RSWEXP(0.1, 0.01, 500, 0.99999)": "RSWEXP",
    "SINRSW2(0.1, 0.01, 500)": "SINRSW2", "SINRSWEXP(0.1, 0.01, 500, 0.99999)": "SINRSWEXP",
    "COSRSW2(0.1, 0.01, 500)": "COSRSW2", "COSRSWEXP(0.1, 0.01, 500, 0.99999)": "COSRSWEXP",
    "ONECYCLE(0.1, 1000000)": "ONECYCLE", "WSD(0.1, warmup=5%)": "WSD", "KNEE(0.1)": "KNEE",
    "RANGE(1e-5, 1000000, k1=1, shape=exp)": "RANGE", "SEQ([FIX(0.1), COS(0.1, l=100%)], at=[50%])": "SEQ",
    "WARMUP(COS(0.1, l=100%), l=5%)": "WARMUP", "SCALE(COS(0.1, l=100%), by=0.5)": "SCALE",
    "CLIP(COS(0.1, l=100%), low=0.01)": "CLIP", "REPEAT(COS(0.1, l=100%), l=1000, grow=2)": "REPEAT",
    "POINTS(at=[0, 500, 900000], k=[0, 0.1, 0])": "POINTS",
}  # fmt: skip


def best_ns(function: Callable[[], Any], number: int) -> float:
    """Nanoseconds of one call, the best of 7 rounds."""
    return min(timeit.repeat(function, number=number, repeat=7)) / number * 1e9


def array_ms(policy: Policy) -> float:
    steps = np.arange(STEPS)
    policy(steps[:10])
    return min(timeit.repeat(lambda: policy(steps), number=1, repeat=5)) * 1e3


def call_ns(function: Callable[[float], float]) -> float:
    return best_ns(lambda: [function(t) for t in range(1000, 2000)], 20) / 1000


def step_ns(make: Callable[[Any], Any]) -> float:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(optimizer)
    optimizer.step()
    return best_ns(scheduler.step, 2000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for text in [*BARE, *MORE]:
        policy = Policy.parse(text).bind(steps_per_epoch=1000, total_steps=STEPS)
        row: dict[str, Any] = {"policy": text, "function": policy.function, "array_ms": array_ms(policy)}
        row["call_ns"] = call_ns(policy)
        if text in BARE:
            row["bare_ns"] = call_ns(BARE[text])
            row["call_ratio"] = row["call_ns"] / row["bare_ns"]
        if text in TORCH:
            row["step_ns"] = step_ns(policy.scheduler)
            row["torch_step_ns"] = step_ns(TORCH[text])
            row["step_ratio"] = row["step_ns"] / row["torch_step_ns"]
        rows.append(row)
    missing = set(FUNCTIONS) - {row["function"] for row in rows}
    table = Table(title=f"LR policies, one core; missing: {', '.join(sorted(missing)) or 'none'}")
    for name in (
        "policy",
        "10^6 steps, ms",
        "call, ns",
        "bare formula, ns",
        "ratio",
        "step, ns",
        "torch's, ns",
        "ratio",
    ):
        table.add_column(name, justify="left" if name == "policy" else "right")
    keys = ("array_ms", "call_ns", "bare_ns", "call_ratio", "step_ns", "torch_step_ns", "step_ratio")
    for row in rows:
        table.add_row(
            row["policy"], *("" if key not in row else f"{row[key]:.{0 if key.endswith('ns') else 2}f}" for key in keys)
        )
    Console(width=140).print(table)
    worst_array = max(rows, key=lambda row: row["array_ms"])
    ratios = [row["call_ratio"] for row in rows if "call_ratio" in row]
    within = sum(ratio <= CALL_LIMIT for ratio in ratios)
    print(f"slowest array: {worst_array['policy']} {worst_array['array_ms']:.1f} ms (limit {ARRAY_LIMIT_MS:.0f} ms)")
    print(f"calls within {CALL_LIMIT:.0f}x of the bare formula: {within} of {len(ratios)}, worst {max(ratios):.1f}x")
    if args.json:
        args.json.write_text(json.dumps({"steps": STEPS, "missing": sorted(missing), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
