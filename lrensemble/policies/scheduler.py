"""A policy as a torch ``LRScheduler``."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrensemble.policies.policy import Policy


class PolicyLR(LRScheduler):
    """Set every parameter group's LR to ``policy(step)``, keeping the ratios between groups.

    The LR is right before the first optimizer step. A group whose LR differs from the optimizer's default ``lr``
    keeps that ratio (a head with 10 times the LR stays at 10 times). An optimizer built with ``lr=0`` has no ratios.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    policy : Policy
        Bound, i.e. with every length in steps.
    """

    def __init__(self, optimizer: Optimizer, policy: Policy) -> None:
        self.policy = policy
        base = float(optimizer.defaults["lr"])
        # A resumed optimizer carries 'initial_lr'; its current 'lr' already is somewhere along the policy.
        starts = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        self.ratios = [start / base if base else 1.0 for start in starts]
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        lr = self.policy(self.last_epoch)  # torch's name; it counts calls of step(), so optimizer steps here
        return [lr * ratio for ratio in self.ratios]

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and text only, so that ``torch.load(weights_only=True)`` takes it."""
        return {"policy": str(self.policy), "ratios": self.ratios, "last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore; the next ``step()`` continues as an uninterrupted run would."""
        self.policy = Policy.parse(state_dict["policy"])
        self.ratios = list(state_dict["ratios"])
        self.last_epoch = int(state_dict["last_epoch"])
        self._step_count = self.last_epoch + 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
