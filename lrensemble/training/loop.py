"""One member from its spec to weights and predictions. Knows nothing of pools.

Everything random comes from (member id, epoch): initialisation, order, augmentation, dropout. So there is no random
state to save, and a run resumed after an epoch equals an uninterrupted one bit for bit (same device and threads).
"""

from __future__ import annotations

import hashlib
import inspect
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lrensemble.errors import UserError, did_you_mean
from lrensemble.models import build_model
from lrensemble.policies import Policy
from lrensemble.pool import Named, RunSpec
from lrensemble.training.augment import AUGMENTATIONS
from lrensemble.training.device import DeviceData, Rows

EVAL_ROWS = 2000  # rows of one forward pass without gradients

State = dict[str, Any]


def derive_seed(*parts: object) -> int:
    """A seed from anything that has a text form; different parts give unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1


def seed_everything(*parts: object) -> None:
    """Seed torch, NumPy and Python (a user's model may draw from any of them)."""
    seed = derive_seed(*parts)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def build_optimizer(named: Named, model: nn.Module) -> torch.optim.Optimizer:
    """Build any optimizer of ``torch.optim`` by name. Its LR is 1 until a policy sets it."""
    known: dict[str, Any] = {
        name: kind
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }
    by_lower_case = {name.lower(): kind for name, kind in known.items()}
    kind = by_lower_case.get(named.name.lower())
    if kind is None:
        raise UserError(f"unknown optimizer {named.name!r}: {did_you_mean(named.name, known)}")
    options = [name for name in inspect.signature(kind).parameters if name not in ("self", "params", "lr")]
    for name in named.parameters:
        if name == "lr":
            raise UserError(f"optimizer {named.name}: lr is what the policies are for; remove it")
        if name not in options:
            raise UserError(f"optimizer {named.name}: unknown parameter {name!r}: {did_you_mean(name, options)}")
    try:
        optimizer: torch.optim.Optimizer = kind(model.parameters(), lr=1.0, **named.parameters)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise UserError(f"optimizer {named}: {error}") from None
    return optimizer


def steps_per_epoch(train_rows: int, batch_size: int) -> int:
    """Whole batches only: the order is new in every epoch, so the rows left out are others each time."""
    return max(1, train_rows // batch_size)


@dataclass
class Outcome:
    """What training gave: ``complete`` with weights and probabilities, or ``diverged`` with a reason."""

    status: str
    reason: str | None
    history: list[dict[str, Any]]
    costs: dict[str, int | float]
    weights: dict[str, Tensor]
    probabilities: dict[str, NDArray[np.float32]]  # val, test: (N, C)


class Run:
    """A member in training: model, optimizer and schedule, and where they stand."""

    def __init__(self, spec: RunSpec, member_id: str, data: DeviceData) -> None:
        self.spec, self.member_id, self.data = spec, member_id, data
        self.device = data.train.images.device
        self.batch_size = min(spec.training.batch_size, len(data.train))
        self.steps_per_epoch = steps_per_epoch(len(data.train), self.batch_size)
        seed_everything(member_id, "init")
        self.model = build_model(
            spec.model.name,
            input_shape=data.input_shape,
            num_classes=data.num_classes,
            parameters=spec.model.parameters,
        ).to(self.device)
        self.optimizer = build_optimizer(spec.optimizer, self.model)
        self.scheduler = Policy.parse(spec.policy).scheduler(
            self.optimizer,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.steps_per_epoch * spec.training.epochs,
        )
        self.epoch = 0
        self.seconds = 0.0  # spent in training steps, over all interruptions
        self.history: list[dict[str, Any]] = []

    def state(self) -> State:
        """Plain values and tensors (``torch.load(weights_only=True)`` takes them)."""
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": self.history,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state(self, state: State) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.epoch, self.seconds, self.history = state["epoch"], state["seconds"], state["history"]

    def train_epoch(self) -> dict[str, Any]:
        """Train one epoch and return its line of the history."""
        train = self.data.train
        augment = [AUGMENTATIONS[name] for name in self.spec.training.augment]
        start = time.perf_counter()
        seed_everything(self.member_id, self.epoch)
        order = torch.randperm(len(train)).to(self.device)
        # Sums stay on the device: reading them once an epoch is the only synchronisation.
        loss_sum, right_sum = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        lr = 0.0
        self.model.train()
        for step in range(self.steps_per_epoch):
            index = order[step * self.batch_size : (step + 1) * self.batch_size]
            x, y = train.images[index], train.labels[index]
            for change in augment:
                x = change(x)
            lr = float(self.scheduler.get_last_lr()[0])
            loss, logits = self._step(x, y)
            self.scheduler.step()
            loss_sum += loss
            right_sum += (logits.argmax(1) == y).sum()
        self.epoch += 1
        train_loss = float(loss_sum) / self.steps_per_epoch
        self.seconds += time.perf_counter() - start
        val_loss, val_accuracy = self.validate()
        return {
            "epoch": self.epoch,
            "step": self.epoch * self.steps_per_epoch,
            "lr": lr,
            "train_loss": train_loss,
            "train_accuracy": float(right_sum) / (self.steps_per_epoch * self.batch_size),
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "seconds": round(self.seconds, 3),
        }

    def _step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step on a batch: (loss, logits) as they were before it."""
        outputs: list[Tensor] = []

        def closure() -> Tensor:  # a closure, so that LBFGS works like the others
            self.optimizer.zero_grad()
            outputs.append(self.model(x))
            loss = F.cross_entropy(outputs[-1], y, label_smoothing=self.spec.training.label_smoothing)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        loss: Any = self.optimizer.step(closure)  # type: ignore[arg-type]
        return loss.detach(), outputs[0].detach()

    def logits(self, rows: Rows) -> Tensor:
        """Logits of every row, in order."""
        self.model.eval()
        with torch.no_grad():
            return torch.cat([self.model(chunk) for chunk in torch.split(rows.images, EVAL_ROWS)])

    def validate(self) -> tuple[float, float]:
        logits, labels = self.logits(self.data.val), self.data.val.labels
        accuracy = (logits.argmax(1) == labels).float().mean()
        return float(F.cross_entropy(logits, labels)), float(accuracy)

    def outcome(self, reason: str | None = None) -> Outcome:
        probabilities = {}
        if reason is None:
            for name, rows in (("val", self.data.val), ("test", self.data.test)):
                probabilities[name] = self.logits(rows).float().softmax(1).cpu().numpy()
            # Not of the test split: what it holds must not decide who can be selected.
            if not np.isfinite(probabilities["val"]).all():
                reason = "the predictions of the trained model are not finite"
        steps = self.epoch * self.steps_per_epoch
        return Outcome(
            status="complete" if reason is None else "diverged",
            reason=reason,
            history=self.history,
            costs={
                "steps": steps,
                "seconds": round(self.seconds, 3),
                "samples_per_second": round(steps * self.batch_size / max(self.seconds, 1e-9), 1),
                "parameters": sum(p.numel() for p in self.model.parameters()),
            },
            weights={
                name: value.detach().cpu().clone().contiguous() for name, value in self.model.state_dict().items()
            },
            probabilities=probabilities,
        )


def fit(
    spec: RunSpec,
    member_id: str,
    data: DeviceData,
    *,
    state: State | None = None,
    after_epoch: Callable[[Run], None] = lambda run: None,
) -> Outcome:
    """Train one member, from the beginning or from `state`; call `after_epoch` after every epoch."""
    run = Run(spec, member_id, data)
    if state is not None:
        try:
            run.load_state(state)
        except (RuntimeError, KeyError, ValueError):  # of a model that was changed since
            run = Run(spec, member_id, data)
    while run.epoch < spec.training.epochs:
        line = run.train_epoch()
        run.history.append(line)
        if not (math.isfinite(line["train_loss"]) and math.isfinite(line["val_loss"])):
            return run.outcome(f"the loss is not finite after epoch {run.epoch} (last LR {line['lr']:.3g})")
        after_epoch(run)
    return run.outcome()
