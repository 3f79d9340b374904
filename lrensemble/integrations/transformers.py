"""transformers' Trainer and all that are built on it (trl's SFTTrainer, ...)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_utils import has_length

from lrensemble.errors import UserError
from lrensemble.integrations.guard import check_update, policy_scheduler, start_at
from lrensemble.policies import Policy

if TYPE_CHECKING:
    from transformers import Trainer

    from lrensemble.policies.scheduler import OnChange
    from lrensemble.pool.recorder import Recorder
else:
    Trainer = object  # in front of whichever trainer it is mixed into

# What the Trainer calls in its logs, and a member's history.
LOGGED = {"loss": "train_loss", "learning_rate": "lr", "eval_loss": "val_loss", "eval_accuracy": "val_accuracy"}


class PolicyTrainerMixin(Trainer):
    """The policy is the Trainer's schedule, over the updates that the Trainer itself counts.

    ``class PolicyTrainer(PolicyTrainerMixin, Trainer): ...``, then ``PolicyTrainer(..., policy="COS(1e-4, l=100%)")``.
    Accumulation, packing, ``drop_last``, ``max_steps`` and several processes are in its count. ``learning_rate``,
    ``lr_scheduler_type`` and the warm-up of the arguments do not matter. `PolicyGuard` watches.

    Parameters
    ----------
    policy : Policy or str
    base_lr, on_change
        As of `PolicyLR`: on_change says what resuming from a checkpoint of another policy or budget does.
    *args, **kwargs
        The trainer's. Of ``optimizers`` the second must be None: it would be another schedule.
    """

    lr_scheduler: Any

    def __init__(
        self,
        *args: Any,
        policy: Policy | str,
        base_lr: float | None = None,
        on_change: OnChange = "refuse",
        **kwargs: Any,
    ) -> None:
        self.policy = Policy.of(policy)
        self._schedule: dict[str, Any] = {"base_lr": base_lr, "on_change": on_change}
        super().__init__(*args, **kwargs)
        if self.lr_scheduler is not None:
            raise UserError(
                f"two schedules: policy={self.policy} and the second of optimizers=(..., scheduler): give one"
            )
        self.add_callback(PolicyGuard)

    def get_train_dataloader(self) -> Any:
        loader = super().get_train_dataloader()
        self._batches = len(loader) if has_length(loader) else None
        return loader

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            # A stream without a length is one epoch, as the Trainer counts it.
            batches, accumulated = getattr(self, "_batches", None), self.args.gradient_accumulation_steps
            self.lr_scheduler = self.policy.scheduler(
                self.optimizer if optimizer is None else optimizer,
                total_steps=num_training_steps,
                steps_per_epoch=-(-batches // accumulated) if batches else num_training_steps,
                **self._schedule,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler


class PolicyGuard(TrainerCallback):
    """Stop a Trainer that does not follow its policy or trains nothing (`check_update`).

    A checkpoint without the scheduler's state goes on at the Trainer's ``global_step``, with a warning.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        scheduler = policy_scheduler(kwargs["lr_scheduler"])
        # Updates that float16's loss scaling skipped count for the Trainer, not for the policy.
        if not (args.fp16 and 0 < scheduler.last_epoch < state.global_step):
            start_at(scheduler, state.global_step)
        self._skipped = state.global_step - scheduler.last_epoch
        self._model = None if args.deepspeed else kwargs["model"]  # DeepSpeed's optimizer holds copies

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = kwargs["optimizer"]
        self._skipped += getattr(optimizer, "step_was_skipped", False)
        scheduler = policy_scheduler(kwargs["lr_scheduler"])
        check_update(scheduler, optimizer, state.global_step - self._skipped, self._model)
        self._model = None


class MemberCallback(TrainerCallback):
    """The Trainer's logs become the member's history, its updates and parameters costs.

    A Trainer that is resumed has what it logged before in its checkpoint: the history is whole.

    Parameters
    ----------
    member : Recorder
        What ``with pool.member(...) as member`` gives, in the main process.
    """

    def __init__(self, member: Recorder) -> None:
        self.member = member

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for line in state.log_history:
            self._log(state, line["step"], line.get("epoch"), line)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self._log(state, state.global_step, state.epoch, logs or {})

    def _log(self, state: Any, step: int, epoch: Any, logs: Mapping[str, Any]) -> None:
        values = {LOGGED[name]: value for name, value in logs.items() if name in LOGGED}
        if values and state.is_world_process_zero:
            self.member.log(step=step, **({} if epoch is None else {"epoch": epoch}), **values)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        count = sum(parameter.numel() for parameter in kwargs["model"].parameters())
        self.member.costs(steps=state.global_step, parameters=count)
