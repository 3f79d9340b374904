"""One run from its spec to weights and predictions. Knows nothing of pools.

Everything random comes from (member id, epoch): initialisation (a shared one from model and seed), order,
augmentation, dropout. So there is no random state to save, and a run resumed after an epoch equals an uninterrupted
one bit for bit (same device and threads).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lrensemble.models import hash_of_tensors
from lrensemble.policies.control import CONSTANT
from lrensemble.policies.units import steps_per_epoch
from lrensemble.pool import Named, RunSpec
from lrensemble.tasks.losses import cross_entropy
from lrensemble.tasks.rows import AnyRows, DeviceData
from lrensemble.tasks.task import Batch, right_rows
from lrensemble.training.cached import with_lower
from lrensemble.training.derived import Average, refresh_norms
from lrensemble.training.engine import Engine
from lrensemble.training.frozen import frozen, known_base, same_model, trainable_model, trained_names
from lrensemble.training.judges import ask, judges_of
from lrensemble.training.measure import initialise, measured
from lrensemble.training.optimizer import build_optimizer, load_exactly, set_mode, trainable
from lrensemble.training.pieces import in_pieces, sum_of
from lrensemble.training.probed_run import ProbedRun
from lrensemble.training.probing import Prober
from lrensemble.training.seeds import seed_everything
from lrensemble.training.steering import Steering
from lrensemble.training.totals import Ended, Totals

State = dict[str, Any]


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
    trace: str | None = None  # of a controlled run: the policy that gives its LRs again ...
    control: dict[str, Any] | None = None  # ... and what its controller measured
    base: str | None = None  # hash of the frozen parameters that are not in `weights`


@functools.lru_cache(maxsize=4)
def _compiled(spec: str, facts: tuple[tuple[str, Any], ...], device: torch.device, mode: str) -> Any:
    """One compiled module for all runs of one architecture in this process: (module, its compiled form)."""
    model = trainable_model(RunSpec.model_validate_json(spec), dict(facts), trust=True).to(device)
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
        self.task = data.task
        self.micro_batches = micro_batches
        self.batch_size = min(spec.training.batch_size, len(data.train))
        self.steps_per_epoch = steps_per_epoch(len(data.train), self.batch_size)
        seed_everything(spec.start(member_id), "init")
        # `member.train_members` admits what the configuration names.
        model = trainable_model(spec, self.task.facts, trust=True)
        self.base = known_base(spec, self.task, model)
        self.model = self.forward = model.to(data.device)
        if self.engine.cache_lower:
            self.data = data = with_lower(data, self.model, self.base)
        initialise(self.task, self.model, data.train)
        if self.engine.compile != "no":
            state = model.state_dict()
            facts = tuple(self.task.facts.items())
            self.model, self.forward = _compiled(same_model(spec), facts, data.device, self.engine.compile)
            self.model.load_state_dict(state)
        self.model.to(memory_format=self.engine.memory_format(self.model))
        self.optimizer = build_optimizer(spec.optimizer, self.model, fused=self.engine.is_fused(data.device))
        self.parameters: list[Tensor] = [*trainable(self.model)]
        total = self.steps_per_epoch * spec.training.epochs
        self.steering = Steering(self.optimizer, spec.policy, steps_per_epoch=self.steps_per_epoch, total_steps=total)
        self.prober = Prober(ProbedRun(self))
        self.averages = {i: Average(named, self.model) for i, named in (averages or {}).items()}
        self.autocast = self.engine.autocast(data.device)
        # float16 gradients underflow without one; it skips steps with overflows.
        scaled = self.engine.dtype(data.device) is torch.float16
        self.scaler = torch.amp.GradScaler(data.device.type) if scaled else None
        self.epoch = 0
        self.used = {"seconds": 0.0}  # in training steps, over all interruptions (`Meter`)
        self.first_loss: float | Tensor | None = None  # before the first step: what an explosion is measured against
        self.history: list[dict[str, Any]] = []

    # State

    def state(self) -> State:
        """Plain values and tensors (``torch.load(weights_only=True)`` takes them)."""
        return {
            "epoch": self.epoch,
            "used": self.used,
            "first_loss": None if self.first_loss is None else float(self.first_loss),
            "history": self.history,
            "scheduler": self.steering.state(),
            "probing": self.prober.state(),
            **self.learned(),
        }

    def learned(self) -> State:
        """What steps change."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "averages": {i: average.model.state_dict() for i, average in self.averages.items()},
        }

    def load_state(self, state: State) -> None:
        """Go on from a `state`; KeyError, ValueError or RuntimeError when it is of another model or lacks averages."""
        self.learn(state)
        self.steering.load_state(state["scheduler"])
        if "probing" in state:
            self.prober.load_state(state["probing"])
        self.epoch, self.history = state["epoch"], list(state["history"])
        self.used = dict(state["used"]) if "used" in state else {"seconds": state["seconds"]}  # of an older version
        self.first_loss = state.get("first_loss")

    def learn(self, state: State) -> None:
        """Be as in what `learned` gave."""
        for i, average in self.averages.items():
            average.model.load_state_dict(state["averages"][i])
        self.model.load_state_dict(state["model"])
        load_exactly(self.optimizer, state["optimizer"])
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])

    # Training

    def train_epoch(self) -> None:
        """Train one epoch and add its line to the history; raise `Ended` when the loss explodes."""
        totals = Totals(self)
        self.model.train()
        set_mode(self.optimizer, training=True)
        if self.steering.steps == 0:
            self.steering.begin(self.prober)
        for batch in self.batches():
            totals.add(*self.step(batch))
        totals.stop()
        self.end_epoch(totals)

    def batches(self) -> Iterator[Batch]:
        """The batches of this epoch in its order; seeds everything that is random in it."""
        seed_everything(self.member_id, self.epoch)
        order = torch.randperm(len(self.data.train))
        self.model.train()
        yield from self.data.train.batches(order, self.batch_size, self.steps_per_epoch)

    def end_epoch(self, totals: Totals) -> None:
        """Evaluate on validation and write the history."""
        self.epoch += 1
        if set_mode(self.optimizer, training=False):  # other weights: their batch norm statistics are others
            refresh_norms(self.model, self.data, max(1, self.batch_size // self.micro_batches))
        for average in self.averages.values():
            average.after_epoch(self.model, self.epoch)
        val_loss, val_accuracy, is_constant = self._validate()
        self.history.append(
            {
                "epoch": self.epoch,
                "step": self.epoch * self.steps_per_epoch,
                "lr": totals.lr,
                "train_loss": totals.loss,
                "train_accuracy": totals.accuracy,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
                **({CONSTANT: 1.0} if is_constant else {}),
                **self.rounded,
                **measured(self.task, self.model, self.data.val),
            }
        )
        self.steering.after_epoch(self.history[-1])
        if not math.isfinite(val_loss):
            raise Ended("diverged", f"the validation loss is not finite after epoch {self.epoch} (LR {totals.lr:.3g})")

    @property
    def rounded(self) -> dict[str, float]:
        """What it used so far, for history and record."""
        return {name: round(value, 3) for name, value in self.used.items()}

    def ask(self, judges: Iterable[Named] = ()) -> None:
        """Raise `Ended` when one of the judges, or of those that the spec asks for, stops the run here."""
        ask([*judges_of(self.spec.training), *judges], self.spec, self.history)

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One optimizer step on a batch of training rows: mean loss and how many were right, as it was before it."""
        batch = self.task.augment(batch, self.spec.training)
        loss, right = self.optimize(batch)
        self.after_step()
        self.steering.observe(loss, self.prober)
        return loss, right

    def backward(
        self, batch: Batch, scale: Callable[[Tensor], Tensor] = lambda loss: loss
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients of a batch, its loss scaled; the losses and the numbers of right rows of its pieces."""
        task, training, rows = self.task, self.spec.training, len(batch["y"])
        count = min(self.micro_batches, rows)
        losses: list[Tensor] = []
        rights: list[Tensor] = []
        self.optimizer.zero_grad()
        for piece in in_pieces(batch, count):
            with self.autocast():
                row_losses, scores = task.loss(self.forward, piece, training)
                loss = row_losses.mean() if count == 1 else row_losses.sum() / rows
            scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            if scores is not None:
                rights.append(right_rows(scores.detach(), piece["y"]).sum())
        return losses, rights

    def clip(self) -> None:
        if self.spec.training.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.spec.training.clip)

    def optimize(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One step of the optimizer: mean loss and how many rows were right, as it was before it."""
        scaler, first = self.scaler, []

        def closure() -> Tensor:  # a closure, so that LBFGS works like the others
            computed = self.backward(batch, scaler.scale) if scaler else self.backward(batch)
            first.append(computed)
            if scaler and self.spec.training.clip is not None:
                scaler.unscale_(self.optimizer)
            self.clip()
            return sum_of(computed[0])

        if scaler:
            closure()
            scaler.step(self.optimizer)
            scaler.update()
        else:
            self.optimizer.step(closure)  # type: ignore[arg-type]
        losses, rights = first[0]
        return sum_of(losses), sum_of(rights or [torch.full((), math.nan)])

    def after_step(self) -> None:
        """What follows every optimizer step: decay, averages, the next LR."""
        self.decay()
        for average in self.averages.values():
            average.after_step(self.model)
        self.steering.step()

    def decay(self) -> None:
        """The weight decay that no optimizer does."""
        if decay := self.spec.training.decoupled_weight_decay:
            with torch.no_grad():
                torch._foreach_mul_(self.parameters, 1 - decay)

    # Evaluation

    def scores(self, rows: AnyRows, model: nn.Module | None = None) -> Tensor:
        """Scores (N, C) of every row, in order; in float32, whatever the training's precision."""
        return self.data.scores(model or self.model, rows, max(1, self.engine.eval_rows // self.micro_batches))

    def _validate(self) -> tuple[float, float, bool]:
        """Loss and accuracy, and whether the scores of all rows are the same bits."""
        scores, labels = self.scores(self.data.val), self.data.val.labels
        # In float32, 405 of 450 would be less than 0.9 and miss that target.
        accuracy = int(right_rows(scores, labels).sum()) / len(labels)
        is_constant = len(scores) > 1 and bool((scores == scores[:1]).all())
        return float(cross_entropy(scores, labels).mean()), accuracy, is_constant

    def outcome(self, model: nn.Module | None = None) -> Outcome:
        """The run as it stands (or an averaged `model` of it) as a complete member."""
        model = model or self.model
        probabilities = {
            name: self.scores(rows, model).float().softmax(1).cpu().numpy()
            for name, rows in (("val", self.data.val), ("test", self.data.test))
        }
        # Not of the test split: what it holds must not decide who can be selected.
        if not np.isfinite(probabilities["val"]).all():
            return self.ended("diverged", "the predictions of the trained model are not finite")
        weights = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
        outcome = self._outcome("complete", None, weights, probabilities)
        if self.base and hash_of_tensors(frozen(model)) == self.base:
            outcome.base = self.base
            trained = trained_names(model)
            outcome.weights = {name: value for name, value in weights.items() if name in trained}
        return outcome

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
                **self.rounded,
                "samples_per_second": round(steps * self.batch_size / max(self.used["seconds"], 1e-9), 1),
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "flops": self._flops(),
                **({"probe_seconds": round(self.prober.seconds, 3)} if self.prober.seconds else {}),
                **measured(self.task, self.model, self.data.val, len(self.data.val)),
            },
            weights=weights,
            probabilities=probabilities,
            engine={
                "precision": str(self.engine.dtype(self.data.device)).removeprefix("torch."),
                "channels_last": self.engine.memory_format(self.model) is torch.channels_last,
                "compile": self.engine.compile,
                "micro_batches": self.micro_batches,
            },
            trace=self.steering.trace,
            control=self.steering.controller.report() or None,
        )

    def _flops(self) -> int:
        """Floating-point operations of one row's forward pass: matrix products and convolutions, 2 per multiply-add."""
        self.model.eval()
        counter = FlopCounterMode(display=False)
        batch = next(iter(self.data.val.chunks(1)))
        batch.pop("lower", None)  # who predicts new rows computes it
        with torch.no_grad(), counter:
            self.task.scores(self.model, batch)
        return int(counter.get_total_flops())


def fit(
    run: Run,
    *,
    state: State | None = None,
    after_epoch: Callable[[Run], None] = Run.ask,
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
