"""The LR range test: train a little while the LR grows, and see where the loss falls and where it explodes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from lrensemble.errors import UserError
from lrensemble.policies.control import Controlled
from lrensemble.policies.sweep import HIGH, LOW, LRSweep, RangeTest, SweepCurve
from lrensemble.pool import RunSpec
from lrensemble.tasks import Task
from lrensemble.tasks.rows import DeviceData
from lrensemble.training.device import pick_devices
from lrensemble.training.engine import Engine
from lrensemble.training.loop import Run
from lrensemble.training.unchanged import unchanged

STEPS, REPEATS = 200, 3


def range_test(
    spec: RunSpec,
    data: Task,
    *,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
    shape: str = "exp",
    repeats: int = REPEATS,
    engine: Engine | None = None,
    device: str = "auto",
    tell: Callable[[int, int], None] = lambda sweep, step: None,
) -> RangeTest:
    """Test the LRs from `low` to `high` on a run's model, optimizer, batches, augmentation (Smith 2017, section 3.3).

    Each of `repeats` sweeps is a run under the controller SWEEP, from another initialisation, in at most `steps`
    optimizer steps. Nothing is written. `tell` hears the sweep and its step, both from 0, before every one.
    """
    engine = engine or Engine()
    policy = _sweep(low, high, steps, shape, repeats)
    rows = engine.rows(data, pick_devices(device)[0])
    curves = []
    with unchanged():
        for number in range(repeats):
            swept = spec.model_copy(update={"policy": str(policy)})
            curves.append(_sweep_run(swept, rows, engine, number, partial(tell, number)))
    return RangeTest.of(curves)


def _sweep(low: float, high: float, steps: int, shape: str, repeats: int) -> Controlled:
    if repeats < 1:
        raise UserError(f"repeats = {repeats} is not possible: at least 1")
    schedule = Controlled.make("SWEEP", k0=low, k1=high, l=steps, shape=shape)
    schedule.controller()  # says what does not fit together
    return schedule


def _sweep_run(spec: RunSpec, rows: DeviceData, engine: Engine, number: int, tell: Callable[[int], None]) -> SweepCurve:
    run = Run(spec, f"range test {number}", rows, engine)
    sweep = run.steering.controller
    assert isinstance(sweep, LRSweep)
    step = 0
    while not sweep.is_over:
        for batch in run.batches():
            tell(step)
            run.step(batch)
            step += 1
            if sweep.is_over:
                break
        run.epoch += 1
    return sweep.curve


def find_lr(
    step: Callable[..., Any],
    optimizer: torch.optim.Optimizer,
    model: torch.nn.Module,
    batches: Iterable[Any] | None = None,
    *,
    keep: Sequence[Any] = (),
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
    shape: str = "exp",
    repeats: int = REPEATS,
    base_lr: float | None = None,
) -> RangeTest:
    """Test the LRs from `low` to `high` in a training loop of one's own, and leave everything as it was, to the bit.

    Parameters
    ----------
    step : callable
        ``step(batch)`` trains on a batch, optimizer step included, and returns its loss (a number, or a tensor of one).
        Without `batches` it is ``step()``, and gets its batches itself.
    optimizer, model : Optimizer, nn.Module
        What it trains. Groups keep the ratios of their LRs (`base_lr` as in `Policy.scheduler`).
    batches : iterable
        For example the DataLoader; begun again where it ends. A pass of the caller's over it is not disturbed.
    keep : sequence
        What else a step changes: a GradScaler, an LR scheduler, an average of the model, a second model or optimizer.
    shape : ``exp`` or ``linear`` growth.
    repeats : sweeps, each from the present state on other batches.

    Returns
    -------
    RangeTest
        ``.lr`` is the suggestion; ``.suggestions`` has all of them with their spread over the sweeps.

    Raises
    ------
    UserError
        A step that returns no loss, or sets LRs itself; batches that cannot be begun again, or none; what
        `Policy.scheduler` and `unchanged` refuse.
    """
    schedule = _sweep(low, high, steps, shape, repeats)
    if hasattr(batches, "__next__"):
        raise UserError("batches is an iterator: what it gives cannot be put back; give the loader that it comes from")
    loaders = [batches] if isinstance(batches, DataLoader) else []
    arguments, curves = _endless(batches), []
    with unchanged(*loaders):
        for _ in range(repeats):
            sweep = schedule.controller()
            assert isinstance(sweep, LRSweep)
            with unchanged(model, optimizer, *keep, randomness=False):
                scheduler = sweep.policy.scheduler(optimizer, base_lr=base_lr)
                while not sweep.is_over:
                    lrs = [float(group["lr"]) for group in optimizer.param_groups]
                    loss = _number(step(*next(arguments)))
                    if lrs != [float(group["lr"]) for group in optimizer.param_groups] and not any(
                        isinstance(thing, LRScheduler) for thing in keep
                    ):
                        raise UserError("step() sets the LR: give its scheduler in keep=[...], so that it is put back")
                    sweep.see(loss)
                    scheduler.step()
            curves.append(sweep.curve)
    return RangeTest.of(curves)


def _endless(batches: Iterable[Any] | None) -> Iterator[tuple[Any, ...]]:
    """Arguments for `step`."""
    if getattr(batches, "_iterator", None) is not None:  # of persistent workers: the caller's own pass
        batches = copy.copy(batches)
        batches._iterator = None  # type: ignore[union-attr]
    while True:
        some = batches is None
        for batch in batches or ():
            some = True
            yield (batch,)
        if batches is None:
            yield ()
        if not some:
            raise UserError("batches is empty: at least one batch is needed")


def _number(loss: Any) -> float:
    try:
        return float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
    except (TypeError, ValueError, RuntimeError):
        what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise UserError(f"step() returns {what}: the loss of its batch is needed, one number") from None
