"""What a controller may try on a run, without a trace in it: the seam `lrensemble.policies.control.Probing`."""

from __future__ import annotations

import contextlib
import copy
import inspect
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from lrensemble.errors import UserError
from lrensemble.policies.control import Controlled, Line
from lrensemble.policies.policy import Policy
from lrensemble.training.seeds import seed_everything
from lrensemble.training.unchanged import unchanged

REPEATS = 100  # of one gradient: by then the momentum of 0.9 has reached 1 / (1 - 0.9)
RANDOM = 1e-3  # of the loss: a larger difference between two computations of it is no rounding
SOON = 10  # ... and here it is seen that there is none


class Probed(Protocol):
    """A run that can be probed: our trainer's, or a user's own loop."""

    @property
    def model(self) -> nn.Module: ...

    @property
    def optimizer(self) -> Optimizer: ...

    @property
    def scaler(self) -> GradScaler | None: ...

    @property
    def ratios(self) -> Sequence[float]:
        """Of the LRs of the parameter groups."""

    def fresh(self, draw: int, count: int) -> Iterator[Any]:
        """`count` batches of training rows as they come in training, one by one; equal for equal draws."""

    def gradients(self, batch: Any) -> None:
        """Fill ``.grad`` of the parameters, as it is when the optimizer steps."""

    def loss_of(self, batch: Any) -> float:
        """The mean loss, in training mode, without gradients."""

    def train_on(self, batch: Any, lr: float) -> float:
        """One whole optimizer step; the loss before it."""

    def snapshot(self) -> Any:
        """All that a step changes, copied."""

    def go_back(self, snapshot: Any) -> None:
        """Be as in a snapshot, which stays as it is."""


class Prober:
    """Tries things on a run and undoes them. `seconds` are what all of it took."""

    def __init__(self, probed: Probed) -> None:
        self.probed = probed
        self.kept: Any = None  # what `restore` goes back to ...
        self.candidate: Any = None  # ... and what will be that once it is known to be good
        self.gain: float | None = None  # of a fresh optimizer whose steady update is its first one, but for the length
        self.seconds = 0.0
        self.went_back = False
        self.noise: float | None = None  # by which the loss differed between two equal computations, the first time

    def along(self, lrs: Sequence[float], draw: int) -> Line:
        probed, optimizer = self.probed, self.probed.optimizer
        with self._measured(), self._undone():
            first, fresh = probed.fresh(draw, 2)
            seed_everything("line", draw)
            probed.gradients(first)
            parameters = [p.detach() for p in with_gradient(optimizer)]
            fresh_gain = None if optimizer.state else self.gain
            update, gain, self.gain = steady_update(optimizer, probed.ratios, fresh_gain)
            start = [p.clone() for p in parameters]

            def loss_at(lr: float) -> float:
                seed_everything("line", draw)  # the dropout of every LR is the same
                with torch.no_grad():
                    torch._foreach_copy_(parameters, start)
                    torch._foreach_add_(parameters, update, alpha=lr)
                    return probed.loss_of(fresh)

            before, *losses = [loss_at(lr) for lr in (0.0, *lrs)]
            if self.noise is None:
                self.noise = abs(loss_at(0.0) - before)
                if self.noise > RANDOM * abs(before):
                    warnings.warn(
                        f"the loss of one batch differs by {self.noise:.2g} (it is {before:.3g}) between two "
                        "computations with the same random numbers, so probes are as uncertain: does it draw from a "
                        "generator of its own?",
                        stacklevel=2,
                    )
        return Line(before, [loss - before for loss in losses], gain, self.noise)

    def trial(self, lrs: Sequence[float], draw: int) -> list[float]:
        probed = self.probed
        with self._measured(), self._undone():
            return [probed.train_on(batch, lr) for batch, lr in zip(probed.fresh(draw, len(lrs)), lrs, strict=True)]

    def _undone(self) -> contextlib.AbstractContextManager[None]:
        probed = self.probed
        return unchanged(probed.model, probed.optimizer, *([probed.scaler] if probed.scaler else []))

    def keep(self) -> None:
        with self._measured():
            self.candidate = self.probed.snapshot()

    def confirm(self) -> None:
        self.kept, self.candidate = self.candidate, None

    def restore(self) -> None:
        with self._measured():
            self.probed.go_back(self.kept)
            self.went_back, self.candidate = True, None

    def state(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {"seconds": self.seconds, "kept": self.kept, "candidate": self.candidate}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.seconds, self.kept, self.candidate = state["seconds"], state["kept"], state.get("candidate")

    @contextlib.contextmanager
    def _measured(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


def with_gradient(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def steady_update(
    optimizer: Optimizer, ratios: Sequence[float], gain: float | None = None
) -> tuple[list[Tensor], float, float | None]:
    """What the optimizer adds to the parameters at LR 1 once it has seen their gradients `REPEATS` times.

    On a copy: momentum and moments come as they are and stay so. Also returns how much longer than the first such
    update it is, the gain of momentum, and the gain again where the two are parallel: then it can be given the next
    time, and one update is made.
    """
    twin = copy.deepcopy(optimizer)
    for group, own, ratio in zip(twin.param_groups, optimizer.param_groups, ratios, strict=True):
        group["lr"] = torch.full_like(group["lr"], ratio) if isinstance(group["lr"], Tensor) else ratio
        for twin_p, p in zip(group["params"], own["params"], strict=True):
            twin_p.grad = None if p.grad is None else p.grad.clone()
    originals, copies = with_gradient(optimizer), with_gradient(twin)
    start = [p.detach() for p in originals]
    gradients, slots = ([p.grad for p in some if p.grad is not None] for some in (originals, copies))
    updates: list[list[Tensor]] = []
    norms: list[float] = []
    with torch.no_grad():
        for repeat in range(1, REPEATS + 1):
            torch._foreach_copy_(copies, start)
            torch._foreach_copy_(slots, gradients)  # some optimizers change them
            type(twin).step(twin)  # schedulers wrap the step of the original
            if repeat in (1, SOON, REPEATS):
                updates.append(list(torch._foreach_sub(copies, start)))
                if gain is not None:
                    return list(torch._foreach_mul(updates[0], gain)), gain, gain
                norms.append(_norm(updates[-1]))
                if repeat == SOON and abs(norms[1] - norms[0]) <= 1e-5 * norms[0]:
                    break
        gain = norms[-1] / norms[0] if norms[0] else 1.0
        rest = _norm(list(torch._foreach_sub(updates[-1], torch._foreach_mul(updates[0], gain))))
    return updates[-1], gain, gain if rest <= 1e-3 * norms[-1] else None


def _norm(values: list[Tensor]) -> float:
    return float(torch.stack(torch._foreach_norm(values)).norm())


def fill_gradients(
    backward: Callable[[Callable[[Tensor], Tensor]], Any], parameters: Sequence[Tensor], scaler: GradScaler | None
) -> None:
    """Gradients by ``backward(scale)``, which scales its loss so that those of float16 do not vanish; unscaled."""
    scale = 1.0 if scaler is None else float(scaler.get_scale())
    while True:
        backward(lambda loss, scale=scale: loss * scale)  # type: ignore[misc]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if scale <= 1 or all(bool(gradient.isfinite().all()) for gradient in gradients):
            break
        scale /= 4  # as the scaler does in its first steps
    if scale != 1:
        torch._foreach_div_(gradients, scale)


def needs_closure(optimizer: Optimizer) -> bool:
    parameter = inspect.signature(type(optimizer).step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def check_probing(schedule: Policy | Controlled, optimizer: Optimizer) -> None:
    """Raise `UserError` where a controller probes with an optimizer that cannot be probed."""
    if isinstance(schedule, Controlled) and schedule.probes and needs_closure(optimizer):
        raise UserError(
            f"{schedule.function} probes the optimizer's update, which {type(optimizer).__name__} makes of a closure "
            "that it calls several times: take a policy, or another optimizer"
        )
