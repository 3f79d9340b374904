"""The LR range test: train a little while the LR grows, and see where the loss falls and where it explodes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lrensemble.pool import RunSpec
from lrensemble.tasks import Batch, Task
from lrensemble.tasks.rows import DeviceData, must_stream
from lrensemble.training.device import pick_devices
from lrensemble.training.loop import Run
from lrensemble.training.seeds import seed_everything

LOW, HIGH = 1e-5, 10.0
SMOOTHING = 0.95  # of the loss, per step, bias-corrected
GONE = 4.0  # times the lowest loss: the test is over
FALLEN = 0.1  # of the way down: here learning has begun
MOST_PASSES = 1000


@dataclass(frozen=True)
class RangeTest:
    """Smoothed training loss against LR, and the range of peak LRs that follows.

    `low` is where the loss has fallen a tenth of its way, `high` where it is lowest: beyond it training gets worse.
    """

    lr: list[float]
    loss: list[float]
    low: float
    high: float


def range_test(spec: RunSpec, data: Task, *, steps: int = 200, repeats: int = 3, device: str = "auto") -> RangeTest:
    """Test the LR range of a run's model, optimizer and batches (Smith 2017, section 3.3; the LR grows exponentially).

    The mean of `repeats` tests in log LR, each from another initialisation, `steps` optimizer steps each at most.
    Nothing is written. The curve is that of the last one.
    """
    where = pick_devices(device)[0]
    rows = DeviceData.of(data, where, stream=must_stream(data, where, 1))
    text = f"RANGE(k0={LOW:g}, k1={HIGH:g}, l={steps}, shape=exp)"
    tests = [_one(spec.model_copy(update={"policy": text}), rows, i, steps) for i in range(repeats)]
    low, high = (math.exp(float(np.mean([math.log(getattr(t, end)) for t in tests]))) for end in ("low", "high"))
    return RangeTest(tests[-1].lr, tests[-1].loss, low, high)


def _one(spec: RunSpec, data: DeviceData, number: int, steps: int) -> RangeTest:
    with torch.random.fork_rng(devices=[data.device] if data.device.type == "cuda" else []):
        run = Run(spec, f"range test {number}", data)
        lrs: list[float] = []
        losses: list[float] = []
        mean = 0.0
        for step, batch in zip(range(steps), _batches(run, number), strict=False):
            loss = float(run.step(batch)[0])
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            smooth = mean / (1 - SMOOTHING ** (step + 1))
            if not math.isfinite(smooth) or (losses and smooth > GONE * min(losses)):
                break
            lrs.append(run.steering.lr(step))
            losses.append(smooth)
    return chosen(lrs, losses)


def _batches(run: Run, number: int) -> Iterator[Batch]:
    run.model.train()
    for epoch in range(MOST_PASSES):
        seed_everything("range test", number, epoch)
        order = torch.randperm(len(run.data.train))
        yield from run.data.train.batches(order, run.batch_size, run.steps_per_epoch)


def chosen(lr: list[float], loss: list[float]) -> RangeTest:
    """The range of a curve: ascending LRs and their smoothed losses."""
    if not loss:
        return RangeTest(lr, loss, LOW, LOW * 10)  # not finite from the first step
    bottom = int(np.argmin(loss))
    start = max(loss[: bottom + 1])
    begun = int(np.argmax(np.array(loss) <= start - FALLEN * (start - loss[bottom])))
    low = lr[min(begun, bottom)]
    return RangeTest(lr, loss, low, max(lr[bottom], 2 * low))
