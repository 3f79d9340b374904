"""Several runs of one architecture as one batched model: one forward and backward pass for all of them.

A small network leaves a processor idle between kernels; K of them stacked (torch.func) fill it. The parameters of
every run's own model become views into the stack, so each run keeps its optimizer, LR, state and evaluation, and what
comes out equals training one after the other up to rounding, whoever else is in the stack.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lrensemble.models import is_users_own
from lrensemble.policies import Controlled, parse_schedule
from lrensemble.pool import RunSpec
from lrensemble.tasks.losses import row_losses
from lrensemble.tasks.rows import DeviceData, Rows
from lrensemble.tasks.task import Batch, Task, right_rows
from lrensemble.training.engine import STACK, STACK_PARAMETERS, Engine
from lrensemble.training.loop import Outcome, Run
from lrensemble.training.seeds import seed_everything
from lrensemble.training.totals import Ended, Totals


def stack_size(spec: RunSpec, model: nn.Module, engine: Engine, device: torch.device) -> int:
    """How many runs like this one train as a stack; 1 where it is impossible, surprising or not measured faster."""
    if engine.stack == 1 or not _can_stack(spec, model, engine, device):
        return 1
    if engine.stack != "auto":
        return engine.stack
    if is_users_own(spec.model.name):
        return 1  # it may keep state of its own between calls, which one batched model would share
    if spec.optimizer.name.lower() == "rmsprop" and spec.optimizer.parameters.get("momentum"):
        return 1  # alone among all, it makes another run of a rounding error at its usual LR (docs/training.md)
    linear = all(isinstance(module, nn.Linear) for module in model.modules() if list(module.parameters(False)))
    small = sum(parameter.numel() for parameter in model.parameters()) <= STACK_PARAMETERS
    return STACK if linear and small and device.type == "cpu" else 1


def _can_stack(spec: RunSpec, model: nn.Module, engine: Engine, device: torch.device) -> bool:
    """No randomness inside a step (every run has its own), nothing that changes buffers, and torch.func takes it."""
    training = spec.training
    if (
        training.augment
        or training.cutout
        or training.mixup
        or training.clip
        or engine.compile != "no"
        or engine.micro_batches > 1
    ):
        return False
    if (
        isinstance(parse_schedule(spec.policy), Controlled)
        or spec.optimizer.name.lower() == "lbfgs"
        or "." in spec.optimizer.name  # a package's: it may keep weights of its own
        or engine.dtype(device) is torch.float16
    ):
        return False
    return not list(model.buffers()) and not any(isinstance(m, nn.modules.dropout._DropoutNd) for m in model.modules())


def group_key(spec: RunSpec) -> str:
    """Equal for runs that can be in one stack: they differ in policy and seed alone."""
    return spec.model_copy(update={"policy": "FIX(k0=1)", "seed": 0}).model_dump_json()


def fit_stack(
    runs: Sequence[Run],
    *,
    after_epoch: Callable[[Run], None] = Run.ask,
    ended: Callable[[Run, Outcome], None],
) -> None:
    """Train runs of one `group_key` together; call `ended` with the outcome of each as it ends.

    Runs that stand at different epochs catch up first. `after_epoch` may raise `Ended` to stop its run.
    """
    going = list(runs)
    while going:
        epoch = min(run.epoch for run in going)
        now = [run for run in going if run.epoch == epoch]
        if epoch == now[0].spec.training.epochs:
            for run in now:
                ended(run, run.outcome())
            return
        for run, end in _train_epoch(now):
            if end is None:
                try:
                    after_epoch(run)
                except Ended as stop:
                    end = stop
            if end is not None:
                ended(run, run.ended(end.status, end.reason))
                going.remove(run)


def _train_epoch(runs: list[Run]) -> list[tuple[Run, Ended | None]]:
    """One epoch of all runs at once; with each run the reason if it is over."""
    first = runs[0]
    totals = [Totals(run, sharers=len(runs)) for run in runs]
    arrays, orders = _rows(first.data, runs)
    stacked = _stack([run.model for run in runs])
    trained = {name: whole for name, whole in stacked.items() if whole.requires_grad}
    model = first.model.train()

    task, training = first.task, first.spec.training

    def scores_of(parameters: dict[str, Tensor], batch: Batch) -> Tensor:
        return task.scores(lambda *x: functional_call(model, parameters, x), batch)

    def loss_of(parameters: dict[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor | None]:
        return task.loss(lambda *x: functional_call(model, parameters, x), batch, training)

    def losses_of(batch: Batch) -> tuple[Tensor, Tensor | None]:
        if type(task).loss is not Task.loss:
            return vmap(loss_of)(stacked, batch)
        scores = vmap(scores_of)(stacked, batch)  # the loss is of all at once: vmap's takes 0.4 ms a step more
        return row_losses(scores, batch, training, task.class_counts), scores

    gradients = {name: torch.zeros_like(whole) for name, whole in trained.items()}
    for k, run in enumerate(runs):
        own = dict(run.model.named_parameters())
        for name, gradient in gradients.items():
            own[name].grad = gradient[k]
    windows, rights = torch.zeros(2, len(runs), device=first.data.device)
    for k, total in enumerate(totals):
        total.window, total.right = windows[k], rights[k]  # views, like the parameters
    ends: list[Ended | None] = [None] * len(runs)
    joint = _joint_optimizer(runs)
    for step in range(first.steps_per_epoch):
        index = orders[:, step * first.batch_size : (step + 1) * first.batch_size]
        batch = {key: array[index] for key, array in arrays.items()}  # (K, B, ...)
        with first.autocast():
            rows, scores = losses_of(batch)
            losses = rows.mean(1)
        # Into memory of the parameters' own layout: fused optimizers go through it in order, whatever the strides.
        computed = torch.autograd.grad(losses.sum(), list(trained.values()))
        for gradient, new in zip(gradients.values(), computed, strict=True):
            gradient.copy_(new)
        windows += losses.detach()
        rights += math.nan if scores is None else right_rows(scores.detach(), batch["y"]).sum(1)
        if any(run.first_loss is None for run in runs):
            for run, loss in zip(runs, losses.detach(), strict=True):
                run.first_loss = loss if run.first_loss is None else run.first_loss
        joint.step()
        for k, run in enumerate(runs):
            run.after_step()
            if ends[k] is None:
                try:
                    totals[k].count()
                except Ended as end:
                    ends[k] = end  # the others go on; what it computes until the epoch's end is nobody's
    for k, run in enumerate(runs):
        run.optimizer.state.update({p: joint.state[p] for p in run.parameters if p in joint.state})
        if ends[k] is None:
            totals[k].stop()
    for k, run in enumerate(runs):
        if ends[k] is None:
            try:
                run.end_epoch(totals[k])
            except Ended as end:
                ends[k] = end
    return list(zip(runs, ends, strict=True))


def _rows(data: DeviceData, runs: list[Run]) -> tuple[Batch, Tensor]:
    """All training rows, and for every run the order that it would have alone: (K, N)."""
    assert isinstance(data.train, Rows)
    orders = []
    for run in runs:
        seed_everything(run.member_id, run.epoch)
        orders.append(torch.randperm(len(data.train)))
    return data.train.arrays, torch.stack(orders).to(data.device)


def _joint_optimizer(runs: list[Run]) -> torch.optim.Optimizer:
    """One optimizer over the parameter groups of all: the groups are the runs' own, so their schedulers drive it."""
    joint = copy.copy(runs[0].optimizer)
    joint.param_groups = [group for run in runs for group in run.optimizer.param_groups]
    joint.state = defaultdict(dict)
    for run in runs:
        joint.state.update(run.optimizer.state)
    return joint


def _stack(models: list[nn.Module]) -> dict[str, Tensor]:
    """Stack the parameters, and make every model's own parameters views of the stack."""
    per_model = [dict(model.named_parameters()) for model in models]
    stacked = {}
    for name, first in per_model[0].items():
        whole = torch.stack([parameters[name].detach() for parameters in per_model])
        for k, parameters in enumerate(per_model):
            parameters[name].data = whole[k]
        stacked[name] = whole.requires_grad_(first.requires_grad)
    return stacked
