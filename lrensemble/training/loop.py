"""One run from its spec to weights and predictions. Knows nothing of pools.

Everything random comes from (member id, epoch): initialisation (a shared one from model and seed), order,
augmentation, dropout. So there is no random state to save, and a run resumed after an epoch equals an uninterrupted
one bit for bit (same device and threads).
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lrensemble.models import build_model
from lrensemble.policies import Policy
from lrensemble.policies.units import steps_per_epoch
from lrensemble.pool import Named, RunSpec
from lrensemble.training.augment import augmentations, mixup
from lrensemble.training.derived import Average
from lrensemble.training.device import AnyRows, DeviceData
from lrensemble.training.engine import Engine
from lrensemble.training.optimizer import build_optimizer
from lrensemble.training.totals import Ended, Totals

State = dict[str, Any]


def derive_seed(*parts: object) -> int:
    """A seed from anything that has a text form; different parts give unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1


def seed_everything(*parts: object) -> None:
    """Seed torch, NumPy and Python (a user's model may draw from any of them)."""
    seed = derive_seed(*parts)
    # torch.manual_seed asks every kind of accelerator, which takes a millisecond where there is none.
    accelerated = torch.cuda.is_initialized() or torch.backends.mps.is_available()  # type: ignore[no-untyped-call]
    (torch.manual_seed if accelerated else torch.default_generator.manual_seed)(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


@dataclass
class Outcome:
    """What training gave: ``complete`` with weights and probabilities, or ``diverged`` or ``stopped`` with a reason."""

    status: str
    reason: str | None
    history: list[dict[str, Any]]
    costs: dict[str, int | float]
    weights: dict[str, Tensor]
    probabilities: dict[str, NDArray[np.float32]]  # val, test: (N, C)
    engine: dict[str, Any]  # what computed it, for the record


@functools.lru_cache(maxsize=4)
def _compiled(spec: str, data: tuple[tuple[int, ...], int], device: torch.device, mode: str) -> Any:
    """One compiled module for all runs of one architecture in this process: (module, its compiled form)."""
    model = build_model(**Named.model_validate_json(spec).build, input_shape=data[0], num_classes=data[1]).to(device)
    return model, torch.compile(model, mode=mode)


class Run:
    """A run in training: model, optimizer and schedule, and where they stand.

    Parameters
    ----------
    averages : dict of str to Named
        Averages to keep on the way, by the ids of the members that they will be.
    micro_batches : int
        Pieces that every batch is computed in, so that less memory is needed.
    """

    def __init__(
        self,
        spec: RunSpec,
        member_id: str,
        data: DeviceData,
        engine: Engine | None = None,
        averages: Mapping[str, Named] | None = None,
        micro_batches: int = 1,
    ) -> None:
        self.spec, self.member_id, self.data, self.engine = spec, member_id, data, engine or Engine()
        self.micro_batches = micro_batches
        self.batch_size = min(spec.training.batch_size, len(data.train))
        self.steps_per_epoch = steps_per_epoch(len(data.train), self.batch_size)
        seed_everything(spec.start(member_id), "init")
        model = build_model(**spec.model.build, input_shape=data.input_shape, num_classes=data.num_classes)
        self.model = self.forward = model.to(data.device)
        if self.engine.compile != "no":
            state = model.state_dict()
            shape = (data.input_shape, data.num_classes)
            self.model, self.forward = _compiled(spec.model.model_dump_json(), shape, data.device, self.engine.compile)
            self.model.load_state_dict(state)
        self.model.to(memory_format=self.engine.memory_format(self.model))
        self.optimizer = build_optimizer(spec.optimizer, self.model, fused=self.engine.is_fused(data.device))
        self.parameters: list[Tensor] = [p for p in self.model.parameters() if p.requires_grad]
        self.scheduler = Policy.parse(spec.policy).scheduler(
            self.optimizer,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.steps_per_epoch * spec.training.epochs,
        )
        self.averages = {i: Average(named, self.model) for i, named in (averages or {}).items()}
        self.autocast = self.engine.autocast(data.device)
        # float16 gradients underflow without one; it skips steps with overflows.
        scaled = self.engine.dtype(data.device) is torch.float16
        self.scaler = torch.amp.GradScaler(data.device.type) if scaled else None
        self.epoch = 0
        self.seconds = 0.0  # spent in training steps, over all interruptions
        self.history: list[dict[str, Any]] = []

    # State

    def state(self) -> State:
        """Plain values and tensors (``torch.load(weights_only=True)`` takes them)."""
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": self.history,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "averages": {i: average.model.state_dict() for i, average in self.averages.items()},
        }

    def load_state(self, state: State) -> None:
        """Go on from a `state`; KeyError, ValueError or RuntimeError when it is of another model or lacks averages."""
        for i, average in self.averages.items():
            average.model.load_state_dict(state["averages"][i])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.seconds, self.history = state["epoch"], state["seconds"], list(state["history"])

    # Training

    def train_epoch(self) -> None:
        """Train one epoch and add its line to the history; raise `Ended` when the loss explodes."""
        totals = Totals(self)
        seed_everything(self.member_id, self.epoch)
        order = torch.randperm(len(self.data.train))
        changes = augmentations(self.spec.training)
        self.model.train()
        for x, y in self.data.train.batches(order, self.batch_size, self.steps_per_epoch):
            for change in changes:
                x = change(x)
            loss, right = self._step(x, y)
            totals.add(loss, right)
        totals.stop()
        self.end_epoch(totals)

    def end_epoch(self, totals: Totals) -> None:
        """Evaluate on validation, write the history, and stop a run at its target or a hopeless one."""
        self.epoch += 1
        for average in self.averages.values():
            average.after_epoch(self.model, self.epoch)
        val_loss, val_accuracy = self._validate()
        self.history.append(
            {
                "epoch": self.epoch,
                "step": self.epoch * self.steps_per_epoch,
                "lr": totals.lr,
                "train_loss": totals.loss,
                "train_accuracy": totals.accuracy,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
                "seconds": round(self.seconds, 3),
            }
        )
        if not math.isfinite(val_loss):
            raise Ended("diverged", f"the validation loss is not finite after epoch {self.epoch} (LR {totals.lr:.3g})")
        stop, until, epochs = self.spec.training.stop, self.spec.training.until, self.spec.training.epochs
        if until is not None and val_accuracy >= until and self.epoch < epochs:
            raise Ended(
                "stopped",
                f"at its target: validation accuracy {val_accuracy:.4f} reached {until:g} "
                f"after {self.epoch} of {epochs} epochs",
            )
        if stop is None or val_accuracy >= stop.accuracy:
            return
        when = math.ceil(round(stop.after * epochs, 6))  # 7 % of 100 epochs are 7.000000000000001
        if self.epoch == when < epochs:
            raise Ended(
                "stopped",
                f"hopeless: validation accuracy {val_accuracy:.4f} after {self.epoch} of {epochs} epochs is below "
                f"{stop.accuracy:g}",
            )

    def _step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step on a batch: mean loss, and how many were right, as they were before it."""
        training = self.spec.training
        if training.mixup:
            x, other, share = mixup(x, training.mixup)
        count = min(self.micro_batches, len(y))
        pieces = [slice(i * len(y) // count, (i + 1) * len(y) // count) for i in range(count)]
        losses: list[Tensor] = []
        rights: list[Tensor] = []

        def closure() -> Tensor:  # a closure, so that LBFGS works like the others
            self.optimizer.zero_grad()
            whole = torch.zeros((), device=y.device)
            right = torch.zeros((), device=y.device, dtype=torch.int64)
            for rows in pieces:
                with self.autocast():
                    logits = self.forward(x[rows])
                    loss = F.cross_entropy(logits, y[rows], label_smoothing=training.label_smoothing)
                    if training.mixup:
                        loss = share * loss + (1 - share) * F.cross_entropy(
                            logits, y[other][rows], label_smoothing=training.label_smoothing
                        )
                if len(pieces) > 1:
                    loss = loss * ((rows.stop - rows.start) / len(y))
                (self.scaler.scale(loss) if self.scaler else loss).backward()  # type: ignore[no-untyped-call]
                whole += loss.detach()
                right += (logits.detach().argmax(1) == y[rows]).sum()
            losses.append(whole)
            rights.append(right)
            return whole

        if self.scaler:
            closure()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step(closure)  # type: ignore[arg-type]
        self.after_step()
        return losses[0], rights[0]

    def after_step(self) -> None:
        """What follows every optimizer step: decay, averages, the next LR."""
        if decay := self.spec.training.decoupled_weight_decay:
            with torch.no_grad():
                torch._foreach_mul_(self.parameters, 1 - decay)
        for average in self.averages.values():
            average.after_step(self.model)
        self.scheduler.step()

    # Evaluation

    def logits(self, rows: AnyRows, model: nn.Module | None = None) -> Tensor:
        """Logits of every row, in order; in float32, whatever the training's precision."""
        model = model or self.model
        model.eval()
        with torch.no_grad():
            chunk = max(1, self.engine.eval_rows // self.micro_batches)
            return torch.cat([model(images) for images in rows.chunks(chunk)])

    def _validate(self) -> tuple[float, float]:
        logits, labels = self.logits(self.data.val), self.data.val.labels
        right = int((logits.argmax(1) == labels).sum())
        # In float32, 405 of 450 would be less than 0.9 and miss that target.
        return float(F.cross_entropy(logits, labels)), right / len(labels)

    def outcome(self, model: nn.Module | None = None) -> Outcome:
        """The run as it stands (or an averaged `model` of it) as a complete member."""
        model = model or self.model
        probabilities = {
            name: self.logits(rows, model).float().softmax(1).cpu().numpy()
            for name, rows in (("val", self.data.val), ("test", self.data.test))
        }
        # Not of the test split: what it holds must not decide who can be selected.
        if not np.isfinite(probabilities["val"]).all():
            return self.ended("diverged", "the predictions of the trained model are not finite")
        weights = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
        return self._outcome("complete", None, weights, probabilities)

    def ended(self, status: str, reason: str) -> Outcome:
        """A run that is over without a usable model."""
        return self._outcome(status, reason, {}, {})

    def _outcome(self, status: str, reason: str | None, weights: Any, probabilities: Any) -> Outcome:
        steps = self.history[-1]["step"] if self.history else 0
        return Outcome(
            status=status,
            reason=reason,
            history=list(self.history),
            costs={
                "steps": steps,
                "seconds": round(self.seconds, 3),
                "samples_per_second": round(steps * self.batch_size / max(self.seconds, 1e-9), 1),
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "flops": self._flops(),
            },
            weights=weights,
            probabilities=probabilities,
            engine={
                "precision": str(self.engine.dtype(self.data.device)).removeprefix("torch."),
                "channels_last": self.engine.memory_format(self.model) is torch.channels_last,
                "compile": self.engine.compile,
                "micro_batches": self.micro_batches,
            },
        )

    def _flops(self) -> int:
        """Floating-point operations of one row's forward pass: matrix products and convolutions, 2 per multiply-add."""
        self.model.eval()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            self.model(torch.zeros(1, *self.data.input_shape, device=self.data.device))
        return int(counter.get_total_flops())


def fit(
    run: Run,
    *,
    state: State | None = None,
    after_epoch: Callable[[Run], None] = lambda run: None,
) -> Outcome:
    """Train a run to its end, from the beginning or from `state`; call `after_epoch` after every epoch.

    `after_epoch` may raise `Ended` to stop the run.
    """
    if state is not None:
        run.load_state(state)
    try:
        while run.epoch < run.spec.training.epochs:
            run.train_epoch()
            after_epoch(run)
    except Ended as end:
        return run.ended(end.status, end.reason)
    return run.outcome()
