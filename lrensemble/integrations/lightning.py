"""Lightning: what ``configure_optimizers`` returns, and a callback."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

from lrensemble.errors import UserError
from lrensemble.integrations.guard import check_update, policy_scheduler, start_at
from lrensemble.policies import Policy

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from lrensemble.policies.scheduler import PolicyLR
    from lrensemble.pool.recorder import Recorder


def configure_policy(module: Any, optimizer: Optimizer, policy: Policy | str, **options: Any) -> dict[str, Any]:
    """What the ``configure_optimizers`` of `module` returns: the policy over the updates that its trainer counts.

    `options` (base_lr, momentum, on_change) are `PolicyLR`'s.
    """
    trainer = module.trainer
    total = trainer.estimated_stepping_batches
    if not 0 < total < math.inf:
        raise UserError(
            f"{total} updates are no budget for a policy: give the Lightning trainer max_epochs or max_steps"
        )
    batches = trainer.num_training_batches  # a stream without a length is one epoch
    per_epoch = math.ceil(batches / trainer.accumulate_grad_batches) if batches < math.inf else total
    scheduler = Policy.of(policy).scheduler(optimizer, total_steps=total, steps_per_epoch=per_epoch, **options)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class PolicyCallback(Callback):
    """Stop a trainer that does not follow its policy (`check_update`); with a member, write its history.

    Every epoch is a line of the history: the LR and all numbers that the module logs for the epoch
    (``self.log("train_loss", loss, on_epoch=True)``).

    Parameters
    ----------
    member : Recorder, optional
        What ``with pool.member(...) as member`` gives, in the main process.
    """

    def __init__(self, member: Recorder | None = None) -> None:
        self.member = member
        self._lines: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """The history so far, for Lightning's checkpoints."""
        return {"history": self._lines}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The history of a checkpoint; of an earlier ``fit`` with this callback what is not in it goes."""
        history = state_dict["history"]
        step = history[-1]["step"] if history else 0
        self._lines = [line for line in self._lines if line["step"] <= step]
        if self.member is not None:
            self.member.rewind(step)
        for line in history[len(self._lines) :]:
            self._log(line)

    def _log(self, line: dict[str, Any]) -> None:
        if self.member is not None:
            self.member.log(**line)
            self._lines.append(line)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        start_at(_scheduler(trainer), trainer.global_step)
        self._model = pl_module

    def on_train_batch_end(self, trainer: Any, *batch: Any) -> None:
        if trainer.global_step:  # with accumulation not yet in the first batches
            check_update(_scheduler(trainer), trainer.optimizers[0], trainer.global_step, self._model)
            self._model = None

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        at = {"step": trainer.global_step, "epoch": trainer.current_epoch + 1}
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._log({**metrics, **at, "lr": float(_scheduler(trainer).get_last_lr()[0])})  # modules may log such names


def _scheduler(trainer: Any) -> PolicyLR:
    configured = trainer.lr_scheduler_configs
    return policy_scheduler(configured[0].scheduler if configured else None)
