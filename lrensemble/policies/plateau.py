"""Controllers that look at the history: PLATEAU lowers the LR, SWITCH goes through a list of policies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.policies.control import Controller, register_control
from lrensemble.policies.policy import Policy
from lrensemble.policies.registry import Parameter
from lrensemble.policies.units import Length

WATCHED = ("val_loss", "val_accuracy", "train_loss", "train_accuracy")
THRESHOLD = Parameter("threshold", "an improvement is more than this", default=1e-4)
SCALE = Parameter(
    "scale", "of the threshold: a share of the best value, or a difference", "word", words=("rel", "abs"), default="rel"
)
WATCH = Parameter("watch", "value of the history", "word", words=WATCHED, default="val_loss")
MODE = Parameter(
    "mode",
    "whether a lower or a higher value is better; auto: higher for accuracies",
    "word",
    words=("auto", "min", "max"),
    default="auto",
)


class Stall:
    """For how long a value of the history has not improved, by the rules of torch's ReduceLROnPlateau."""

    def __init__(self, name: str, threshold: float, scale: str, watch: str, mode: str) -> None:
        self.name, self.threshold, self.relative, self.watch = name, threshold, scale == "rel", watch
        self.higher = mode == "max" or (mode == "auto" and watch.endswith("accuracy"))

    def begin(self) -> dict[str, float]:
        """The best value so far, how long ago that was, and for how long nothing counts."""
        return {"best": -math.inf if self.higher else math.inf, "bad": 0, "cooling": 0}

    def see(self, known: dict[str, Any], line: Mapping[str, Any], passed: float = 1) -> float:
        """Take a line of the history into `known`, `passed` after the one before; return its value."""
        if self.watch not in line:
            raise UserError(f"{self.name} watches {self.watch}, the history has {', '.join(sorted(line))}")
        value = float(line[self.watch])
        if self.is_better(value, known["best"]):
            known |= {"best": value, "bad": 0}
        else:
            known["bad"] += passed
        if known["cooling"] > 0:
            known |= {"cooling": max(0, known["cooling"] - passed), "bad": 0}
        return value

    def is_better(self, value: float, best: float) -> bool:
        """By more than the threshold."""
        sign = 1 if self.higher else -1
        if self.relative:
            return sign * value > sign * best * (1 + sign * self.threshold)
        return sign * value > sign * (best + sign * self.threshold)


@register_control(
    "PLATEAU",
    "LR = k0, times factor whenever the watched value has not improved for more than `patience` epochs",
    "torch ReduceLROnPlateau",
    Parameter("k0", "LR at the start"),
    Parameter("factor", "of the LR at every reduction", high=1.0, low_open=True, default=0.1),
    Parameter("patience", "epochs without improvement that are waited for", default=10.0),
    THRESHOLD,
    SCALE,
    Parameter("cooldown", "epochs after a reduction that do not count", default=0.0),
    Parameter("min_lr", "the LR never falls below", default=0.0),
    WATCH,
    MODE,
)
class Plateau(Controller):
    """Reduces the LR when a value of the history stops improving, epoch for epoch as torch's ReduceLROnPlateau."""

    EPS = 1e-8  # torch's: a smaller change of the LR is not made

    def __init__(
        self, k0: float, factor: float, patience: float, cooldown: float, min_lr: float, **watched: Any
    ) -> None:
        self.factor, self.patience, self.cooldown, self.min_lr = factor, patience, cooldown, min_lr
        self.stall = Stall("PLATEAU", **watched)
        super().__init__(lr=k0, **self.stall.begin())

    def lr(self, step: int) -> float:
        lr: float = self.known["lr"]
        return lr

    def after_epoch(self, step: int, line: Mapping[str, Any]) -> None:
        now = self.known
        self.stall.see(now, line)
        if now["bad"] > self.patience:
            lower = max(now["lr"] * self.factor, self.min_lr)
            if now["lr"] - lower > self.EPS:
                now["lr"] = lower
            now |= {"cooling": self.cooldown, "bad": 0}


def _check_switch(values: dict[str, Any]) -> None:
    policies: Sequence[Policy] = values["policies"]
    if len(policies) < 2:
        raise UserError(f"SWITCH: {policies[0]} is the only policy: two or more are needed, the largest LR first")
    if values["start"] > len(policies):
        raise UserError(f"SWITCH: start = {values['start']:g} is not possible: there are {len(policies)} policies")
    window, length = values["window"], values["l"]
    if window.unit == length.unit and window.value >= length.value:
        raise UserError(f"SWITCH: window = {window} is not possible: the run is not longer ({length})")
    if length.unit or not all(policy.is_bound for policy in policies):
        return
    steps = np.linspace(0, max(length.value - 1, 0), 256).astype(np.int64)
    means = [float(policy(steps).mean()) for policy in policies]
    for (first, one), (second, other) in itertools.pairwise(zip(policies, means, strict=True)):
        if one <= other:
            raise UserError(
                f"SWITCH: policies = {first} (mean LR {one:.3g}) stands before {second} ({other:.3g}): "
                "the order is from large to small LRs"
            )


@register_control(
    "SWITCH",
    "one of `policies`; when the watched value stalls, the next larger one in the first `up` of the budget, "
    "the next smaller one after it, and whenever the value has become worse",
    "LRBench ChangeLROnPlateau, without its global state and its misspelt monitor",
    Parameter("policies", "from large to small LRs", "policies", example="[FIX(k0=0.1), FIX(k0=0.03), FIX(k0=0.01)]"),
    Parameter("window", "time without improvement after which it switches", "length", low_open=True, default="10%"),
    Parameter("start", "which of them is the first, from 1; 0: the middle one", default=0.0),
    Parameter("up", "where the time for larger LRs ends", "length", default="80%"),
    Parameter("l", "the budget", "length", low_open=True, default="100%"),
    THRESHOLD,
    SCALE,
    Parameter("cooldown", "time after a switch that does not count", "length", default="0"),
    Parameter(
        "clock",
        "whether a policy begins where it takes over, or counts from step 0",
        "word",
        words=("own", "global"),
        default="own",
    ),
    WATCH,
    MODE,
    check=_check_switch,
)
class Switch(Controller):
    """Goes to a larger or smaller policy when a value of the history stalls."""

    def __init__(
        self,
        policies: tuple[Policy, ...],
        window: Length,
        start: float,
        up: Length,
        l: Length,  # noqa: E741 (the parameter's name in the text form)
        cooldown: Length,
        clock: str,
        **watched: Any,
    ) -> None:
        self.policies, self.window, self.up, self.cooldown = policies, window.value, up.value, cooldown.value
        self.own_clock = clock == "own"
        self.stall = Stall("SWITCH", **watched)
        at = int(start) - 1 if start else (len(policies) - 1) // 2
        # `near`: the best value since the best of all, which tells a plateau from a decline.
        super().__init__(at=at, since=0, seen=0, near=None, **self.stall.begin())

    def lr(self, step: int) -> float:
        policy: Policy = self.policies[self.known["at"]]
        return float(policy(step - self.known["since"] * self.own_clock))

    def after_epoch(self, step: int, line: Mapping[str, Any]) -> None:
        now = self.known
        value = self.stall.see(now, line, step - now["seen"])
        now["seen"] = step
        if now["bad"] == 0:
            now["near"] = None
            return
        if now["near"] is None or (value > now["near"]) == self.stall.higher:
            now["near"] = value
        if now["bad"] < self.window:
            return
        is_decline = self.stall.is_better(now["best"], now["near"])
        move = -1 if step < self.up and not is_decline else 1
        at = min(max(now["at"] + move, 0), len(self.policies) - 1)
        if at != now["at"]:
            now |= {"at": at, "since": step}
        now |= {**self.stall.begin(), "near": None, "cooling": self.cooldown}
