"""How long a team takes beside the best single member."""

from __future__ import annotations

import math
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lrensemble.evaluation.network import load_network
from lrensemble.export.card import Timing
from lrensemble.export.ensemble import Ensemble
from lrensemble.export.formats import FILES, read_module, write_module
from lrensemble.export.team import module_of
from lrensemble.pool import Pool
from lrensemble.tasks import Task
from lrensemble.tasks.text import TextTask

BATCHES = (1, 128)
SECONDS = 1.0  # for one size of batch
CALLS = 5  # at least


def timings(pool: Pool, folder: Path, format: str, trust: bool, task: Task | None = None) -> tuple[Timing, ...]:
    """Measure a team exported to `folder`, and the best single member, exported in the same way and thrown away.

    `task` as in `load_network`.
    """
    network = load_network(pool, pool.best_single(), trust=trust, task=task)
    single = module_of([network], [1.0], "soft", [1.0], classes=len(pool.task.class_names))
    path = folder / f"single.{FILES[format]}"
    try:
        write_module(single, format, path)
        modules = (Ensemble.load(folder, format=format, trust=trust).module, read_module(format, path, single))
    finally:
        path.unlink(missing_ok=True)
    found = []
    for batch in BATCHES:
        team_ms, single_ms = fastest(modules, torch.rand(batch, *single.shape))
        found.append(Timing(format=format, device=_device(), batch=batch, team_ms=team_ms, single_ms=single_ms))
    return tuple(found)


def text_timings(team: nn.Module, single: nn.Module, task: TextTask) -> tuple[Timing, ...]:
    """The same of a team for texts, on its first test rows: how long they are decides."""
    dataset = task.split("test")
    found = []
    for batch in (1, 32):
        rows = task.collate([dataset[i] for i in range(min(batch, task.rows("test")))])
        team_ms, single_ms = fastest((team, single), rows)
        found.append(Timing(format="adapters", device=_device(), batch=len(rows["y"]), team_ms=team_ms,
                            single_ms=single_ms))  # fmt: skip
    return tuple(found)


def fastest(modules: Sequence[nn.Module], rows: Any) -> list[float]:
    """Milliseconds of the fastest call of each, taking turns: whatever else the machine does only makes it slower."""
    best = [math.inf] * len(modules)
    calls, end = 0, time.perf_counter() + SECONDS
    with torch.inference_mode():
        while calls < CALLS or time.perf_counter() < end:
            calls += 1
            for i, module in enumerate(modules):
                start = time.perf_counter()
                module(rows)
                best[i] = min(best[i], 1000 * (time.perf_counter() - start))
    return best


def _device() -> str:
    """The processor and the threads used."""
    name = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(errors="replace"), re.MULTILINE)
        name = found[1] if found else name
    return f"{name}, {torch.get_num_threads()} threads"
