"""A policy as a torch ``LRScheduler``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrensemble.errors import UserError

if TYPE_CHECKING:
    from lrensemble.policies.policy import Policy

PROBED = 10_000  # steps in which the range of the LR is looked for, when momentum moves against it


class PolicyLR(LRScheduler):
    """Set every parameter group's LR to ``policy(step)``, keeping the ratios between groups.

    The LR is right before the first optimizer step. A group whose LR differs from the optimizer's default ``lr``
    keeps that ratio (a head with 10 times the LR stays at 10 times). An optimizer built with ``lr=0`` has no ratios.
    LRs that are tensors are filled, not replaced, so that compiled and captured steps see them.

    Call ``step()`` after every optimizer step that was made: with gradient accumulation once per update, with
    automatic mixed precision not after a step that the scaler skipped.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    policy : Policy
        Bound, i.e. with every length in steps.
    momentum : (float, float), optional
        Low and high momentum (``momentum``, or the first of ``betas``): high at the policy's lowest LR, low at its
        highest.
    total_steps : int, optional
        Steps in which the lowest and highest LR are looked for, default 10,000.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        policy: Policy,
        *,
        momentum: tuple[float, float] | None = None,
        total_steps: int | None = None,
    ) -> None:
        self.policy = policy
        self.momentum = momentum
        base = float(optimizer.defaults["lr"])
        # A resumed optimizer carries 'initial_lr'; its current 'lr' already is somewhere along the policy.
        starts = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        self.ratios = [start / base if base else 1.0 for start in starts]
        if momentum is not None:
            if not 0 <= momentum[0] <= momentum[1] < 1:
                raise UserError(f"momentum = {momentum} is not possible: it must be 0 <= low <= high < 1")
            if not {"momentum", "betas"} & set(optimizer.defaults):
                raise UserError(f"{type(optimizer).__name__} has neither momentum nor betas to move")
            values = policy(np.unique(np.linspace(0, (total_steps or PROBED) - 1, PROBED).astype(np.int64)))
            self.lr_range = (float(values.min()), float(values.max()))
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        lr = self.policy(self.last_epoch)  # torch's name; it counts calls of step(), so optimizer steps here
        if self.momentum is not None:
            self._move_momentum(lr)
        return [lr * ratio for ratio in self.ratios]

    def _move_momentum(self, lr: float) -> None:
        assert self.momentum is not None
        (low, high), (floor, peak) = self.momentum, self.lr_range
        share = min(max((lr - floor) / (peak - floor), 0.0), 1.0) if peak > floor else 0.0
        value = high - (high - low) * share
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (value, *group["betas"][1:])
            else:
                group["momentum"] = value

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and text only, so that ``torch.load(weights_only=True)`` takes it."""
        state: dict[str, Any] = {"policy": str(self.policy), "ratios": self.ratios, "last_epoch": self.last_epoch}
        if self.momentum is not None:
            state |= {"momentum": list(self.momentum), "lr_range": list(self.lr_range)}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore; the next ``step()`` continues as an uninterrupted run would."""
        self.policy = self.policy.parse(state_dict["policy"])
        self.ratios = list(state_dict["ratios"])
        self.last_epoch = int(state_dict["last_epoch"])
        if "momentum" in state_dict:
            low, high = state_dict["momentum"]
            self.momentum = (low, high)
            self.lr_range = tuple(state_dict["lr_range"])
        self._step_count = self.last_epoch + 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
