"""A policy as a torch ``LRScheduler``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrensemble.errors import UserError

if TYPE_CHECKING:
    from lrensemble.policies.policy import Policy

PROBED = 10_000  # steps in which the range of the LR is looked for, when momentum moves against it
OnChange = Literal["refuse", "new"]
_RATIO = "policy_ratio"  # in a parameter group, as torch's "initial_lr": it survives added and removed groups


class PolicyLR(LRScheduler):
    """Set every parameter group's LR to ``policy(step)``, keeping the ratios between groups.

    The LR is right before the first optimizer step. What gets the policy's value, ratio 1, is

    - a group without an LR of its own, i.e. at the optimizer's default ``lr``: a head that was given 10 times that
      stays at 10 times;
    - where every group has its own LR, the group of the largest one (one that is just torch's default for this
      optimizer can be a group's own or none: where the two differ, `base_lr` is asked for);
    - with `base_lr` a group of that LR, whatever the others have.

    A group of LR 0 is frozen and stays so. What an earlier scheduler made of the LRs does not count: the LRs that it
    started from do. A group that is added later follows from the next ``step()`` on, with its LR's ratio to the same
    base (not to the LR of the moment), and groups may be removed. LRs that are tensors are filled, not replaced, so
    that compiled and captured steps see them.

    Call ``step()`` after every optimizer step that was made: with gradient accumulation once per update, with
    automatic mixed precision not after a step that the scaler skipped.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    policy : Policy
    steps_per_epoch, total_steps : int, optional
        The budget, needed where the policy has lengths in epochs or shares.
    momentum : (float, float), optional
        Low and high momentum (``momentum``, or the first of ``betas``): high at the policy's lowest LR, low at its
        highest, as far as these are in the `total_steps` (default 10,000).
    base_lr : float, optional
        The groups' LR that stands for the policy's value.
    on_change : {"refuse", "new"}
        What `load_state_dict` does with a state of another policy, budget or kind of scheduler: a `UserError`, or go
        on under this policy at the state's step.

    Raises
    ------
    UserError
        A policy without the budget that it needs, impossible momentum or base, groups that all have LR 0 or that have
        two readings.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        policy: Policy,
        *,
        steps_per_epoch: int | None = None,
        total_steps: int | None = None,
        momentum: tuple[float, float] | None = None,
        base_lr: float | None = None,
        on_change: OnChange = "refuse",
    ) -> None:
        self.unbound, self.steps_per_epoch, self.total_steps = policy, steps_per_epoch, total_steps
        self.policy = _bound(policy, steps_per_epoch, total_steps)
        self.on_change = _checked(on_change)
        self.momentum = momentum
        self._default = float(optimizer.defaults.get("lr", math.nan))
        self.optimizer = optimizer
        starts = [_start(group) for group in optimizer.param_groups]
        self.base_lr = self._base(starts) if base_lr is None else float(base_lr)
        if not (0 < self.base_lr < math.inf):
            why = f"base_lr = {base_lr} is not possible" if base_lr is not None else "all parameter groups have lr 0"
            raise UserError(
                f"{why}: ratios to it are kept, so build the {type(optimizer).__name__} with an lr above 0 (the policy "
                "replaces it; 0 freezes a group), or give base_lr, the groups' LR that stands for the policy's value"
            )
        self._literal = base_lr is not None
        for group, start in zip(optimizer.param_groups, starts, strict=True):
            group[_RATIO] = self._ratio(start)
        if momentum is not None:
            if not 0 <= momentum[0] <= momentum[1] < 1:
                raise UserError(f"momentum = {momentum} is not possible: it must be 0 <= low <= high < 1")
            if not {"momentum", "betas"} & set(optimizer.defaults):
                raise UserError(f"{type(optimizer).__name__} has neither momentum nor betas to move")
            values = self.policy(np.unique(np.linspace(0, (total_steps or PROBED) - 1, PROBED).astype(np.int64)))
            self.lr_range = (float(values.min()), float(values.max()))
        super().__init__(optimizer)

    def _base(self, starts: list[float]) -> float:
        largest = max(starts)
        if not any(self._is_default(start) for start in starts):
            return largest
        name, parameter = type(self.optimizer).__name__, inspect.signature(type(self.optimizer)).parameters.get("lr")
        if parameter is not None and parameter.default == self._default and largest > self._default * (1 + 1e-6):
            raise UserError(
                f"groups have lr {', '.join(f'{start:g}' for start in starts)}: {self._default:g} may be their own or "
                f"{name}'s default, so the policy's value may be for it or for the largest: base_lr={self._default:g} "
                f"or base_lr={largest:g} says which"
            )
        return self._default

    def _is_default(self, start: float) -> bool:
        # A tensor's default may be float32, a group's own number is not.
        return start > 0 and math.isclose(start, self._default, rel_tol=1e-6)

    def _ratio(self, start: float) -> float:
        return 1.0 if self._is_default(start) and not self._literal else start / self.base_lr

    @property
    def ratios(self) -> list[float]:
        """Of every parameter group: its LR over the policy's value."""
        for group in self.optimizer.param_groups:
            if _RATIO not in group:
                group[_RATIO] = self._ratio(_start(group))
                group.setdefault("initial_lr", group["lr"])
        return [group[_RATIO] for group in self.optimizer.param_groups]

    def get_lr(self) -> list[Any]:
        lr = self.policy(self.last_epoch)  # torch's name; it counts calls of step(), so optimizer steps here
        if self.momentum is not None:
            self._move_momentum(lr)
        try:
            return [lr * group[_RATIO] for group in self.optimizer.param_groups]
        except KeyError:  # of a group that was added since
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
        state: dict[str, Any] = {
            "policy": str(self.unbound),
            "steps_per_epoch": self.steps_per_epoch,
            "total_steps": self.total_steps,
            "ratios": self.ratios,
            "last_epoch": self.last_epoch,
        }
        if self.momentum is not None:
            state |= {"momentum": list(self.momentum), "lr_range": list(self.lr_range)}
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], on_change: OnChange | None = None) -> None:
        """Restore; the next ``step()`` continues as an uninterrupted run would.

        A state is of this scheduler when its policy, bound to its budget, is this one's: ``COS(k0=0.1, l=100%)`` of 10
        steps and of 20 are two policies, ``FIX(0.1)`` is one. With ``on_change="new"`` (default: the scheduler's own)
        any other state, also a torch scheduler's, gives its step alone.

        Raises
        ------
        UserError
            A state of another policy, budget, momentum or kind of scheduler, with both named; one without a step, or
            with the ratios of other groups.
        """
        choice = self.on_change if on_change is None else _checked(on_change)
        step, differs = state_dict.get("last_epoch"), self._difference(state_dict)
        if not isinstance(step, int) or step < 0:
            raise UserError(f"this is no state of a scheduler: last_epoch, its step, is {step!r}")
        if differs and choice == "refuse":
            raise UserError(
                f"{differs}, this scheduler follows {self._name(self.state_dict())}: build it as it was, or go on at "
                f'step {step} under this one with on_change="new"'
            )
        if not differs:
            ratios, groups = state_dict["ratios"], self.optimizer.param_groups
            if len(ratios) != len(groups):
                raise UserError(
                    f"the state is of an optimizer with {len(ratios)} parameter groups, this one has {len(groups)}: "
                    "add or remove groups before loading it"
                )
            for group, ratio in zip(groups, ratios, strict=True):
                group[_RATIO] = float(ratio)
        self.last_epoch = step
        self._step_count = step + 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        lrs = [group["lr"] for group in self.optimizer.param_groups]
        self._last_lr = [lr.clone() if isinstance(lr, Tensor) else lr for lr in lrs]

    def _difference(self, state: Mapping[str, Any]) -> str:
        """What a state is of, where that is not this scheduler; else empty."""
        if "policy" not in state or "ratios" not in state:
            return f"the state is of another kind of scheduler (it holds {', '.join(sorted(map(str, state)))})"
        # Up to 2026 the text was the bound policy's, without a budget.
        theirs = _bound(self.policy.parse(state["policy"]), state.get("steps_per_epoch"), state.get("total_steps"))
        ours = self.state_dict()
        same = theirs == self.policy and all(state.get(key) == ours.get(key) for key in ("momentum", "lr_range"))
        return "" if same else f"the state is of {self._name(state)}"

    @staticmethod
    def _name(state: Mapping[str, Any]) -> str:
        """A state's policy, budget and momentum in words."""
        words = [
            ("steps_per_epoch", "{} steps an epoch"),
            ("total_steps", "{} steps in all"),
            ("momentum", "momentum {}"),
        ]
        given = [text.format(state[key]) for key, text in words if state.get(key) is not None]
        return f"{state['policy']}" + (f" ({', '.join(given)})" if given else "")


def _bound(policy: Policy, steps_per_epoch: int | None, total_steps: int | None) -> Policy:
    if policy.is_bound:
        return policy
    if steps_per_epoch is None or total_steps is None:
        raise UserError(f"{policy} has lengths in epochs or shares: give steps_per_epoch and total_steps")
    return policy.bind(steps_per_epoch=steps_per_epoch, total_steps=total_steps)


def _checked(on_change: OnChange) -> OnChange:
    if on_change not in ("refuse", "new"):
        raise UserError(f"on_change = {on_change!r} is not possible: 'refuse' or 'new'")
    return on_change


def _start(group: dict[str, Any]) -> float:
    # An optimizer that had a scheduler carries 'initial_lr'; its 'lr' is somewhere along that one's way.
    return float(group.get("initial_lr", group["lr"]))
