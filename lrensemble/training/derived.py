"""More members of one run at no extra training: snapshots on the way, and averages of the weights.

Snapshot Ensembles (Huang et al. 2017), SWA (Izmailov et al. 2018), exponential moving averages. Each is a member of
its own that names the run it comes from; asking for it changes nothing about the run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies import Policy
from lrensemble.policies.units import Length
from lrensemble.pool import Named, RunSpec
from lrensemble.tasks.rows import DeviceData

SWA_START = 0.75  # of the budget, as in the paper's experiments
EMA_DECAY = 0.999


MOST_STEPS = 20_000_000


def snapshot_epochs(snapshots: str | tuple[str, ...], spec: RunSpec, steps_per_epoch: int) -> list[int]:
    """Epochs after which a run leaves a snapshot.

    ``cycles`` is where a falling LR turns upwards again (the end of every cycle but the last), moved to the nearest
    end of an epoch; otherwise lengths such as ``10e`` or ``50%``, moved likewise. Raises `UserError` for lengths
    outside of the run; its end is the run's own member.
    """
    epochs = spec.training.epochs
    total = epochs * steps_per_epoch
    if snapshots == "cycles":
        if total > MOST_STEPS:
            raise UserError(f"snapshots=cycles looks at every step: {total:,} are too many, at most {MOST_STEPS:,}")
        policy = Policy.parse(spec.policy).bind(steps_per_epoch=steps_per_epoch, total_steps=total)
        steps: Sequence[float] = cycle_ends(policy(np.arange(total)))
    else:
        lengths = [Length.parse(text) for text in ([snapshots] if isinstance(snapshots, str) else snapshots)]
        steps = [length.in_steps(steps_per_epoch, total).value for length in lengths]
        for length, step in zip(lengths, steps, strict=True):
            if step > total or round(step / steps_per_epoch) < 1:
                unit = f"; it is in steps, {length}e would be epochs" if length.unit == "" else ""
                raise UserError(
                    f"snapshots: {length} is not possible: from the end of epoch 1 to that of epoch {epochs} "
                    f"(step {total:,}){unit}"
                )
    nearest = {round(step / steps_per_epoch) for step in steps}
    return sorted(epoch for epoch in nearest if 0 < epoch < epochs)


def cycle_ends(lr: np.ndarray[Any, Any]) -> list[int]:
    """Steps before which a falling LR has reached the bottom and after which it rises: (T,) -> numbers of steps."""
    change = np.sign(np.diff(lr))
    moves = np.flatnonzero(change)  # plateaus belong to the move before them
    turns = (change[moves[:-1]] < 0) & (change[moves[1:]] > 0)
    return [int(step) + 1 for step in moves[1:][turns]]


def check_average(named: Named, epochs: int) -> Named:
    """``swa`` or ``ema`` with all its parameters; raise `UserError` for anything else."""
    known: dict[str, dict[str, Any]] = {
        "swa": {"start": min(epochs, 1 + math.floor(SWA_START * epochs))},
        "ema": {"decay": EMA_DECAY},
    }
    if named.name not in known:
        raise UserError(f"unknown average {named.name!r}: {did_you_mean(named.name, known)}")
    for key in named.parameters:
        if key not in known[named.name]:
            raise UserError(f"average {named.name}: unknown parameter {key!r}: {did_you_mean(key, known[named.name])}")
    values = known[named.name] | named.parameters
    start, decay = values.get("start", 1), values.get("decay", 0.5)
    if not (type(start) is int and 1 <= start <= epochs):
        raise UserError(f"average swa: start = {start} is not possible: it is an epoch from 1 to {epochs}")
    if not (isinstance(decay, float) and 0 < decay < 1):
        raise UserError(f"average ema: decay = {decay} is not possible: it must be between 0 and 1")
    return Named.model_validate({"name": named.name, **values})


class Average:
    """An average of a run's weights: SWA after every epoch from `start` on, or EMA after every step."""

    def __init__(self, named: Named, model: nn.Module) -> None:
        self.start: int | None = named.parameters.get("start")
        averaging = None if self.start is not None else get_ema_multi_avg_fn(named.parameters["decay"])  # type: ignore[no-untyped-call]
        self.model = AveragedModel(model, multi_avg_fn=averaging)

    def after_step(self, model: nn.Module) -> None:
        if self.start is None:
            self.model.update_parameters(model)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        if self.start is not None and epoch >= self.start:
            self.model.update_parameters(model)


def refresh_norms(averaged: nn.Module, data: DeviceData, batch_size: int) -> nn.Module:
    """Compute a model's batch norm statistics anew over the training rows, in place; in eval mode afterwards.

    As in training of whole batches only: every batch counts the same, so a small last one would count too much
    (and of a single row there is no variance).
    """
    norms = [m for m in averaged.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.running_mean is not None]
    averaged.eval()  # all but the norms: no dropout, nothing random
    if not norms:
        return averaged
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    whole = max(1, len(data.train) // batch_size)
    with torch.no_grad():
        for batch in itertools.islice(data.train.chunks(batch_size), whole):
            data.task.scores(averaged, batch)
    averaged.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return averaged
