"""Controllers in a loop of one's own: the LR of any torch optimizer, from what training shows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, RandomSampler, SequentialSampler

from lrensemble.errors import UserError
from lrensemble.policies.control import parse_schedule
from lrensemble.policies.policy import Policy
from lrensemble.training.optimizer import load_exactly
from lrensemble.training.probing import Prober, check_probing, fill_gradients
from lrensemble.training.seeds import seed_everything
from lrensemble.training.steering import Steering


class TunedLR:
    """Sets the LRs of an optimizer as a controller says: ``LRTUNER()`` needs no LR at all.

        tuned = TunedLR(model, optimizer, "LRTUNER()", loss=loss, batches=loader, total_steps=len(loader) * epochs)
        ...
            tuned.step(loss)  # after every optimizer.step()

    Parameters
    ----------
    schedule : str
        A controller, or a policy.
    loss : callable
        ``loss(model, batch)``: the mean loss of a batch, as the loop computes it (with its autocast and its device).
    batches : DataLoader or callable
        Where probes take their rows from: a loader of a map-style dataset, whose own iteration is not touched, or
        ``batches(draw)``, a batch that is the same for the same number.
    total_steps, steps_per_epoch : int
        The budget in optimizer steps; `steps_per_epoch` where the schedule has lengths in epochs.
    accumulate : int
        Batches whose gradients make one optimizer step.
    clip : float, optional
        Norm that the loop clips gradients to.
    scaler : GradScaler, optional
        Of automatic mixed precision.
    base_lr : float, optional
        For parameter groups with two readings, see `PolicyLR`.
    state : dict, optional
        What `state_dict` gave: go on from there, without measuring again. Load model and optimizer as well.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: str,
        *,
        loss: Callable[[nn.Module, Any], Tensor],
        batches: DataLoader[Any] | Callable[[int], Any],
        total_steps: int,
        steps_per_epoch: int | None = None,
        accumulate: int = 1,
        clip: float | None = None,
        scaler: GradScaler | None = None,
        base_lr: float | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        check_probing(parsed := parse_schedule(schedule), optimizer)
        if steps_per_epoch is None and "e" in parsed.units:
            raise UserError(f"{schedule} has lengths in epochs: give steps_per_epoch, the optimizer steps of one")
        ratios = Policy.make("FIX", k0=1.0).scheduler(optimizer, base_lr=base_lr).ratios
        for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
            group["lr"] = ratio
        self.model, self.optimizer, self.loss, self.ratios = model, optimizer, loss, ratios
        self.batch = _drawn(batches) if isinstance(batches, DataLoader) else batches
        self.accumulate, self.clip, self.scaler = accumulate, clip, scaler
        epoch = total_steps if steps_per_epoch is None else steps_per_epoch
        self.steering = Steering(optimizer, schedule, steps_per_epoch=epoch, total_steps=total_steps)
        self.prober = Prober(self)
        if state is None:
            self.steering.begin(self.prober)
        else:
            self.steering.load_state(state["steering"])
            self.prober.load_state(state)

    def step(self, loss: Tensor | float | None = None) -> None:
        """An optimizer step was made; its loss, without which the guard of LRTUNER sees nothing."""
        self.steering.step()
        self.steering.observe(None if loss is None else torch.as_tensor(loss).detach(), self.prober)

    def after_epoch(self, **line: float) -> None:
        """Values of an epoch for controllers that watch them: ``val_loss``, ``val_accuracy``."""
        self.steering.after_epoch(line)

    @property
    def steps(self) -> int:
        """Made so far."""
        return self.steering.steps

    @property
    def lr(self) -> float:
        """That the next step will have (times a group's ratio)."""
        return self.steering.lr(self.steps)

    @property
    def trace(self) -> str | None:
        """The policy of the LRs that were chosen."""
        return self.steering.trace

    @property
    def report(self) -> dict[str, Any]:
        """What was measured, and how many seconds that took."""
        return {**self.steering.controller.report(), "seconds": self.prober.seconds}

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {"steering": self.steering.state(), **self.prober.state()}

    # What controllers may try (`training.probing.Probed`)

    def fresh(self, draw: int, count: int) -> Iterator[list[Any]]:
        for first in range(draw * count * self.accumulate, (draw + 1) * count * self.accumulate, self.accumulate):
            yield [self.batch(number) for number in range(first, first + self.accumulate)]

    def gradients(self, batch: Sequence[Any]) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        fill_gradients(lambda scale: self._backward(batch, scale), parameters, self.scaler)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.clip)

    def _backward(self, batch: Sequence[Any], scale: Callable[[Tensor], Tensor]) -> float:
        self.optimizer.zero_grad()
        losses = []
        for piece in batch:
            loss = self.loss(self.model, piece) / len(batch)
            scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return float(torch.stack(losses).sum())

    def loss_of(self, batch: Sequence[Any]) -> float:
        return float(torch.stack([self.loss(self.model, piece) for piece in batch]).mean())

    def train_on(self, batch: Sequence[Any], lr: float) -> float:
        self.steering.apply(lr)
        with torch.no_grad():
            loss = self.loss_of(batch)
        self.gradients(batch)
        self.optimizer.step()
        return loss

    def snapshot(self) -> Any:
        scaler = self.scaler.state_dict() if self.scaler else None
        return copy.deepcopy(
            {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "scaler": scaler}
        )

    def go_back(self, snapshot: Any) -> None:
        self.model.load_state_dict(snapshot["model"])
        load_exactly(self.optimizer, copy.deepcopy(snapshot["optimizer"]))
        if self.scaler and snapshot["scaler"]:
            self.scaler.load_state_dict(snapshot["scaler"])


def _drawn(loader: DataLoader[Any]) -> Callable[[int], Any]:
    """Random batches of a loader's dataset by their numbers."""
    dataset: Any = loader.dataset
    size, collate = loader.batch_size, loader.collate_fn
    rows = getattr(loader.sampler, "indices", None)  # of a subset: no other row is seen
    plain = isinstance(loader.sampler, SequentialSampler | RandomSampler | DistributedSampler)
    if isinstance(dataset, IterableDataset) or size is None or not (plain or rows is not None):
        raise UserError(
            "probes draw rows by their numbers, which this loader does not have (iterable, no batch_size, or a sampler "
            "of its own): give batches=function, where function(number) is a batch"
        )

    def batch(number: int) -> Any:
        seed_everything("draw", number)
        order = torch.randperm(len(dataset if rows is None else rows))[:size].tolist()
        return collate([dataset[i if rows is None else int(rows[i])] for i in order])

    return batch
