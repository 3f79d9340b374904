"""How long a team takes beside the best single member."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lrensemble.evaluation.network import load_network
from lrensemble.export.ensemble import Ensemble
from lrensemble.export.formats import FILES, read_module, write_module
from lrensemble.export.team import module_of
from lrensemble.pool import Pool
from lrensemble.pool.timings import Timing
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
        found.append(_timing(format, batch, milliseconds(modules, torch.rand(batch, *single.shape))))
    return tuple(found)


def text_timings(team: nn.Module, single: nn.Module, task: TextTask) -> tuple[Timing, ...]:
    """The same of a team for texts, on its first test rows: how long they are decides."""
    dataset = task.split("test")
    found = []
    for batch in (1, 32):
        rows = task.collate([dataset[i] for i in range(min(batch, task.rows("test")))])
        found.append(_timing("adapters", len(rows["y"]), milliseconds((team, single), rows)))
    return tuple(found)


def milliseconds(modules: Sequence[nn.Module], rows: Any) -> list[list[float]]:
    """What every call of each took, in turns, so that whatever else the machine does falls upon all of them.

    The first call of each is not counted: it allocates.
    """
    calls: list[list[float]] = [[] for _ in modules]
    end = time.perf_counter() + SECONDS
    with torch.inference_mode():
        for module in modules:
            module(rows)
        while len(calls[-1]) < CALLS or time.perf_counter() < end:
            for module, taken in zip(modules, calls, strict=True):
                start = time.perf_counter()
                module(rows)
                taken.append(1000 * (time.perf_counter() - start))
    return calls


def _timing(format: str, batch: int, calls: Sequence[Sequence[float]]) -> Timing:
    team, single = calls
    return Timing(
        format=format,
        device=_device(),
        batch=batch,
        team_ms=min(team),
        single_ms=min(single),
        team_spread=_spread(team),
        single_spread=_spread(single),
        calls=len(team),
    )


def _spread(taken: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(taken, (0.1, 0.9))
    return float(low), float(high)


def _device() -> str:
    """The processor and the threads used."""
    name = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(errors="replace"), re.MULTILINE)
        name = found[1] if found else name
    threads = torch.get_num_threads()
    return f"{name}, {threads} {'thread' if threads == 1 else 'threads'}"
