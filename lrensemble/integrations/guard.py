"""Whether a trainer does what the policy says: faults that otherwise show in no log."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from lrensemble.errors import UserError
from lrensemble.policies.scheduler import PolicyLR


def policy_scheduler(scheduler: Any) -> PolicyLR:
    """The policy's scheduler that a trainer steps, out of accelerate's wrapper; `UserError` where it steps another."""
    inner = getattr(scheduler, "scheduler", scheduler)
    if not isinstance(inner, PolicyLR):
        raise UserError(
            f"the trainer steps a {type(inner).__name__}, so the policy is not followed: give the policy to the "
            "trainer (policy= with PolicyTrainerMixin, configure_policy in Lightning's configure_optimizers)"
        )
    return inner


def start_at(scheduler: PolicyLR, update: int) -> None:
    """Put the policy where the training starts: a checkpoint may hold no scheduler (``save_only_model``)."""
    if scheduler.last_epoch != update:
        warnings.warn(
            f"the training goes on at update {update}, the policy was at step {scheduler.last_epoch} (the checkpoint "
            f"holds no state of it?): it is put at step {update}",
            stacklevel=2,
        )
        scheduler.load_state_dict({"last_epoch": update}, on_change="new")


def check_update(scheduler: PolicyLR, optimizer: Any, update: int, model: nn.Module | None = None) -> None:
    """Compare optimizer and policy after an update and the scheduler's step.

    Parameters
    ----------
    scheduler : PolicyLR
    optimizer : torch.optim.Optimizer
        The one that makes the updates, or accelerate's wrapper of it.
    update : int
        Updates that were made since step 0 of the policy.
    model : torch.nn.Module, optional
        What should be trained: some of its trainable parameters must be the optimizer's. Needed once.

    Raises
    ------
    UserError
        The policy is at another step, the optimizer has another LR than the policy's, or it trains nothing.
    """
    if scheduler.last_epoch != update:
        raise UserError(
            f"after {update} updates the policy is at step {scheduler.last_epoch}: step it once an update (accelerate: "
            'do not prepare it, prepare_policy does what is needed; Lightning: "interval": "step")'
        )
    lrs, expected = [float(group["lr"]) for group in optimizer.param_groups], [*map(float, scheduler.get_last_lr())]
    if lrs != expected:
        raise UserError(
            f"the optimizer has LR {_listed(lrs)} where the policy says {_listed(expected)}: its scheduler was built "
            "for another optimizer, or something else sets the LR too"
        )
    if model is not None:
        trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
        if not trainable & {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}:
            raise UserError(
                f"none of the model's {len(trainable)} trainable parameters belongs to the optimizer, so nothing is "
                "trained: build the optimizer after the adapters (peft_config), or let the trainer build it"
            )


def _listed(lrs: list[float]) -> str:
    return ", ".join(f"{lr:g}" for lr in lrs)
