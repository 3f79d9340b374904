"""Our trainer's run, as controllers probe it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from lrensemble.tasks.task import Batch
from lrensemble.training.pieces import in_pieces, sum_of
from lrensemble.training.probing import fill_gradients
from lrensemble.training.seeds import seed_everything

if TYPE_CHECKING:
    from lrensemble.training.loop import Run


class ProbedRun:
    """A `Probed` of a run: its batches are drawn and augmented as in training."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def model(self) -> nn.Module:
        return self.run.model

    @property
    def optimizer(self) -> Optimizer:
        return self.run.optimizer

    @property
    def scaler(self) -> GradScaler | None:
        return self.run.scaler

    @property
    def ratios(self) -> Sequence[float]:
        return self.run.steering.ratios

    def fresh(self, draw: int, count: int) -> Iterator[Batch]:
        run, train = self.run, self.run.data.train
        seed_everything(run.member_id, "probe", draw)
        passes = -(-count * run.batch_size // len(train))
        order = torch.cat([torch.randperm(len(train)) for _ in range(passes)])
        for number, rows in enumerate(order[: count * run.batch_size].reshape(count, -1)):
            seed_everything(run.member_id, "probe", draw, number)  # whatever was drawn between them
            yield run.task.augment(train.pick(rows), run.spec.training)

    def gradients(self, batch: Batch) -> None:
        run = self.run
        fill_gradients(lambda scale: run.backward(batch, scale), run.parameters, run.scaler)
        run.clip()

    def loss_of(self, batch: Batch) -> float:
        run, rows = self.run, len(batch["y"])
        with run.autocast():
            losses = [
                run.task.loss(run.forward, piece, run.spec.training)[0].sum()
                for piece in in_pieces(batch, min(run.micro_batches, rows))
            ]
        return float(sum_of(losses)) / rows

    def train_on(self, batch: Batch, lr: float) -> float:
        self.run.steering.apply(lr)
        loss, _ = self.run.optimize(batch)
        self.run.decay()
        return float(loss)

    def snapshot(self) -> Any:
        return copy.deepcopy(self.run.learned())

    def go_back(self, snapshot: Any) -> None:
        self.run.learn(copy.deepcopy(snapshot))
