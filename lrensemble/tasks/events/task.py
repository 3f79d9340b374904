"""The task of classifying recordings of an event camera, as spiking networks are trained on them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset as TorchDataset

from lrensemble.array import Array
from lrensemble.errors import UserError, did_you_mean
from lrensemble.tasks.events.binning import BinnedEvents, window_of
from lrensemble.tasks.events.neurons import firing_rates, reset_states
from lrensemble.tasks.events.operations import counting
from lrensemble.tasks.events.recording import Recording, Sensor, summary, total
from lrensemble.tasks.events.sets import EventSet, divided, read_set
from lrensemble.tasks.events.simulate import simulated_set
from lrensemble.tasks.task import SPLITS, Arrays, Batch, Task, TrainingOptions, fingerprint_of

GAIN = 10.0  # scores per rate: the softmax of 0 and 1 is 0 and 1 almost, and the order stays
CALIBRATED = 200  # training crops (or frames) that first weights are scaled on
PROTOCOLS = ("sequence", "carsnn")
LOSSES = ("mse", "training")


class EventTask(Task):
    """Crops of recordings, binned into frames: ``x`` (B, bins, 2, height, width) uint8, OFF and ON.

    A training row is a crop at a random place in each epoch. Of a validation or test row `crops` of them are at fixed
    places, evenly spread, and their scores are averaged.

    Parameters
    ----------
    found : EventSet
    window : pixels a side in the middle of the sensor, [width, height] or [left, top, width, height]; default: all
    crop_ms : milliseconds of a crop
    bins : frames that a crop is divided into
    protocol : ``sequence``: the frames are the time steps of one pass. ``carsnn`` (Viale et al. 2021, FastSpiker): each
        frame is shown for `steps` steps by itself, and the frames vote.
    steps : time steps of a frame, 20 by default; of ``carsnn`` alone
    crops : of an evaluated row
    loss : ``mse`` between the rates of the output neurons and one-hot, or ``training``: what ``training.loss`` says, of
        the scores
    test_fraction, val_fraction, split_seed : see `divided`

    Attributes
    ----------
    frames : how a recording becomes a row, and how many time steps a pass has
    """

    def __init__(
        self,
        found: EventSet,
        *,
        window: int | Sequence[int] | None = None,
        crop_ms: float = 100,
        bins: int = 10,
        protocol: str = "sequence",
        steps: int | None = None,
        crops: int = 1,
        loss: str = "mse",
        test_fraction: float | None = None,
        val_fraction: float | None = None,
        split_seed: int = 0,
    ) -> None:
        for name, value, known in (("protocol", protocol, PROTOCOLS), ("loss", loss, LOSSES)):
            if value not in known:
                raise UserError(f"data.{name} = {value}: {did_you_mean(value, known)}")
        if steps is not None and protocol == "sequence":
            raise UserError(f"data.steps = {steps}: with protocol sequence the bins are the time steps")
        steps = 20 if steps is None else steps
        for name, number, most in (("bins", bins, 10_000), ("steps", steps, 10_000), ("crops", crops, 1_000)):
            if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
                raise UserError(f"data.{name} = {number} is not possible: a whole number from 1 to {most:,}")
        bin_us = round(crop_ms * 1000) // bins if isinstance(crop_ms, int | float) and 0 < crop_ms <= 1e9 else 0
        if bin_us < 1 or abs(bin_us * bins - crop_ms * 1000) > 1e-6:
            raise UserError(f"data.crop_ms = {crop_ms} in {bins} bins: a bin must be whole microseconds, 1 at least")
        self.class_names = found.class_names
        self._bins, self._crops, self._loss = bins, crops, loss
        self._steps = steps if protocol == "carsnn" else None
        place = window_of(found.sensor, window)
        self.frames: dict[str, Any] = {
            "protocol": protocol,
            "window": place,
            "bin_us": bin_us,
            "bins": bins,
            "crops": crops,
            "steps": self._steps or bins,
        }
        self.facts = {
            "input_shape": (self._steps or bins, 2, place[3], place[2]),
            "num_classes": len(found.class_names),
        }
        parts = divided(found, test_fraction, val_fraction, split_seed)
        self._events = {name: BinnedEvents([found.recordings[i] for i in rows], place, bin_us)
                        for name, rows in parts.items()}  # fmt: skip
        self._labels = {name: found.labels[rows] for name, rows in parts.items()}
        # Copies: views would keep the events of the other splits too.
        self._tested = [replace(one, t=one.t.copy(), x=one.x.copy(), y=one.y.copy(), p=one.p.copy())
                        for one in (found.recordings[i] for i in parts["test"])]  # fmt: skip
        self.notes = (*found.notes, *self._said(found, crop_ms))

    def _said(self, found: EventSet, crop_ms: float) -> list[str]:
        notes = summary(total(found.recordings), sum(map(len, found.recordings)))
        short = sum(int((events.lengths < self._bins).sum()) for events in self._events.values())
        if short:
            notes.append(f"{short:,} recordings are shorter than a crop of {crop_ms:g} ms: filled up with zeros")
        return notes

    def split(self, name: str) -> Arrays | TorchDataset[Any]:
        """Of train a dataset of places of crops; of the others their fixed crops, one behind the other."""
        if name == "train":
            return _RandomCrops(self._events[name], self._bins)
        return {"x": self._fixed[name], "y": self._labels[name]}

    @cached_property
    def _fixed(self) -> dict[str, Array]:
        return {name: self.fixed(name) for name in ("val", "test")}

    def fixed(self, name: str, change: Callable[[Recording, int], Recording] | None = None) -> Array:
        """The rows of a split as they are evaluated, (N, crops * bins, 2, H, W) uint8.

        `change` changes each recording before, by its number; of ``test`` alone.
        """
        events = self._events[name]
        if change is not None:
            assert name == "test"
            changed = [change(one, row) for row, one in enumerate(self._tested)]
            events = BinnedEvents(changed, events.window, self.frames["bin_us"])
        return events.fixed(self._bins, self._crops)

    def labels(self, name: str) -> Array:
        """(N,)."""
        return self._labels[name]

    def collate(self, items: list[Any]) -> Batch:
        """Bin the events of (row, first bin) pairs of train."""
        rows, starts = np.array(items).T
        x = self._events["train"].crops(rows, starts, self._bins)
        return {"x": torch.from_numpy(x), "y": torch.from_numpy(self._labels["train"][rows])}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all binned events and labels, and of how they are cut and scored."""
        options = f"{self._bins} {self._steps} {self._crops} {self._loss} {self.facts['input_shape']}"
        splits = [
            {"y": self._labels[name], **{str(i): a for i, a in enumerate(self._events[name].hashed())}}
            for name in SPLITS
        ]
        return fingerprint_of((*self.class_names, options), splits)

    # What a batch means

    def _rates(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """Of the output neurons, by passes: (B, crops or frames, C)."""
        if isinstance(model, nn.Module):
            reset_states(model)
        x = batch["x"].float()
        rows = x.shape[0]  # not len: that would fix it in an exported graph
        if self._steps is None:
            x = x.reshape(-1, self._bins, *x.shape[2:])
        else:  # expanded, not copied: a model that looks computes such a frame once
            x = x.flatten(0, 1)[:, None].expand(-1, self._steps, -1, -1, -1)
        rates: Tensor = model(x)
        return rates.view(rows, -1, rates.shape[-1])

    def _scores(self, rates: Tensor) -> Tensor:
        mean = rates.mean(1)
        if self._steps is None:
            return GAIN * mean
        frames = rates.shape[1]
        votes = F.one_hot(rates.argmax(-1), rates.shape[-1]).sum(1)
        return GAIN * (votes + mean / (1 + mean.abs().amax(-1, keepdim=True))) / frames  # rates decide between ties

    def scores(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """Rates of the output neurons times `GAIN`, the mean over crops; of ``carsnn`` the shares of votes."""
        return self._scores(self._rates(model, batch))

    def loss(
        self, model: Callable[..., Tensor], batch: Batch, training: TrainingOptions
    ) -> tuple[Tensor, Tensor | None]:
        if self._loss == "training":
            return super().loss(model, batch, training)
        rates = self._rates(model, batch)
        wanted = F.one_hot(batch["y"], self.num_classes).to(rates.dtype)
        wanted = wanted * (1 - training.label_smoothing) + training.label_smoothing / self.num_classes
        return (rates - wanted[:, None]).square().mean((1, 2)), self._scores(rates)

    def initialise(self, model: nn.Module, batch: Batch) -> None:
        """Let a model that can scale its weights to what it will see (``calibrate``)."""
        calibrate = getattr(model, "calibrate", None)
        if callable(calibrate):
            rows = max(1, CALIBRATED // (1 if self._steps is None else self._bins))
            calibrate(functools.partial(self.scores, batch={key: value[:rows] for key, value in batch.items()}))

    def measure(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Firing rate of every layer of neurons: spikes a neuron and step; operations of an inference (`counting`)."""
        with counting(model, len(batch["y"])) as counted:
            rates = firing_rates(model, functools.partial(self.scores, batch=batch), len(batch["y"]))
            return {**rates, **counted()}


class _RandomCrops(TorchDataset[tuple[int, int]]):
    """Rows, each with the bin that its crop begins with: another one in every epoch, from torch's random state."""

    def __init__(self, events: BinnedEvents, bins: int) -> None:
        self.places = np.maximum(events.lengths - bins, 0) + 1

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> tuple[int, int]:
        return row, int(torch.randint(int(self.places[row]), ()))


def event_task(
    root: Path | str | None = None,
    *,
    sensor: Sensor | int | None = None,
    unit: str | None = None,
    groups: str | None = None,
    skip_broken: bool = False,
    window: int | Sequence[int] | None = None,
    crop_ms: float = 100,
    bins: int = 10,
    protocol: str = "sequence",
    steps: int | None = None,
    crops: int = 1,
    loss: str = "mse",
    test_fraction: float | None = None,
    val_fraction: float | None = None,
    split_seed: int = 0,
) -> EventTask:
    """The task ``events``: see `read_set` for the files and `EventTask` for what is made of them."""
    if root is None:
        raise UserError("data set 'events' needs data.root=FOLDER or data.root=FILE.npz")
    found = read_set(Path(root).expanduser(), sensor=sensor, unit=unit, groups=groups, skip_broken=skip_broken)
    fractions = {"test_fraction": test_fraction, "val_fraction": val_fraction, "split_seed": split_seed}
    return EventTask(found, window=window, crop_ms=crop_ms, bins=bins, protocol=protocol, steps=steps, crops=crops,
                     loss=loss, **fractions)  # type: ignore[arg-type]  # fmt: skip


def simulated_task(
    images: str = "digits",
    *,
    root: Path | None = None,
    rows: Sequence[int] | None = None,
    seed: int = 0,
    window: int | Sequence[int] | None = None,
    crop_ms: float = 100,
    bins: int = 10,
    protocol: str = "sequence",
    steps: int | None = None,
    crops: int = 1,
    loss: str = "mse",
) -> EventTask:
    """The task ``simulated_events``: events simulated of `images`, the name of a data set; `rows` of each split."""
    if rows is not None and (len(rows) != 3 or not all(isinstance(n, int) and n > 0 for n in rows)):
        raise UserError(f"data.rows = {rows}: how many rows of train, val and test, as in [600, 150, 150]")
    found = _simulated(images, root, seed, None if rows is None else tuple(rows))
    return EventTask(found, window=window, crop_ms=crop_ms, bins=bins, protocol=protocol, steps=steps, crops=crops,
                     loss=loss)  # fmt: skip


_simulated = functools.lru_cache(maxsize=1)(simulated_set)  # the plan and the trainer of one process ask for it

EVENTS: dict[str, Callable[..., EventTask]] = {"events": event_task, "simulated_events": simulated_task}
