"""accelerate: a policy that steps once an update, and a tracker that writes a member's history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from accelerate.tracking import GeneralTracker

from lrensemble.errors import UserError
from lrensemble.policies import Policy

if TYPE_CHECKING:
    from accelerate import Accelerator

    from lrensemble.pool.recorder import Recorder


def prepare_policy(
    accelerator: Accelerator, optimizer: Any, policy: Policy | str, *, batches: int, epochs: int, **options: Any
) -> AcceleratedScheduler:
    """Return a scheduler whose ``step()`` may follow every ``optimizer.step()``: it moves once an update.

    ``accelerator.prepare(scheduler)`` would step it once for every process, so that a policy of the updates ends too
    early. It is saved and loaded with ``save_state`` and ``load_state``.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
    optimizer : AcceleratedOptimizer
        After ``accelerator.prepare``.
    policy : Policy or str
    batches : int
        The length of the prepared loader: batches of an epoch in this process.
    epochs : int
    **options
        base_lr, momentum, on_change of `PolicyLR`.

    Raises
    ------
    UserError
        An optimizer that is not prepared.
    """
    if not isinstance(optimizer, AcceleratedOptimizer):
        raise UserError(f"{type(optimizer).__name__} is not prepared: call accelerator.prepare(model, optimizer) first")
    accumulated = accelerator.gradient_accumulation_steps
    if accelerator.gradient_state.sync_with_dataloader:
        per_epoch = -(-batches // accumulated)  # the last update of an epoch may be of fewer
        total = epochs * per_epoch
    else:
        per_epoch, total = max(batches // accumulated, 1), epochs * batches // accumulated
    scheduler = Policy.of(policy).scheduler(optimizer, total_steps=total, steps_per_epoch=per_epoch, **options)
    accelerator.register_for_checkpointing(scheduler)
    # split_batches: one step an update, whatever the number of processes.
    return AcceleratedScheduler(scheduler, optimizer, split_batches=True)


class MemberTracker(GeneralTracker):
    """``Accelerator(log_with=MemberTracker(member))``: what ``accelerator.log`` gets is the member's history."""

    name = "lrensemble"
    requires_logging_directory = False

    def __init__(self, member: Recorder) -> None:
        self.tracker = member  # accelerate looks whether it is there
        super().__init__()

    def log(self, values: Mapping[str, float], step: int | None = None, **kwargs: Any) -> None:
        self.tracker.log(**{**values, **({} if step is None else {"step": step})})
