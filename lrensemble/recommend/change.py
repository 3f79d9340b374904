"""What to change in a policy whose run missed its target: the range, or another piece from the plateau on.

Wu & Liu 2023: on a plateau change the policy (lower, or raise while there is budget to come down again), compose it
with another piece, extend the range. A change is a policy text with explicit boundaries, so what it leads to can be
trained again by anybody. It starts from step 0: no state of the failed run goes in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.metrics import standard_error
from lrensemble.policies import Length, Policy

RAISE_UNTIL = 0.8  # of the budget: later, a raised LR has no time to come down again (Wu & Liu 2023)
FLAT = 0.1  # of the budget without a new best by more than one standard error is a plateau
FALL_FROM = 0.7  # of the budget, where there is no plateau
STEADY = 0.8  # share of the last epochs with a falling training loss: the LR is low, not noisy
FEW, MANY = 3.0, 10.0  # factors of the range
FAR = 100.0  # the same for a run that has learnt next to nothing, without diverging


@dataclass(frozen=True)
class Change:
    """Another policy to try, and why."""

    policy: str
    why: str


def changes(
    policy: str,
    history: Sequence[Mapping[str, Any]],
    *,
    steps_per_epoch: int,
    epochs: int,
    target: float,
    rows: int,
    diverged: bool = False,
) -> list[Change]:
    """Changes of a policy that missed `target`, the most promising first.

    Parameters
    ----------
    history : sequence of dict
        Of its run, one entry an epoch; it may have ended early.
    epochs : int
        The budget.
    rows : int
        Validation rows: what lies within one standard error is no progress.
    """
    one = Policy.parse(policy)
    if diverged or not history:
        low = scaled(one, 1 / FEW)
        return [
            Change(str(low), f"it diverged: lower the range by {FEW:g}"),
            Change(str(scaled(one, 1 / MANY)), f"it diverged: lower the range by {MANY:g}"),
            Change(str(Policy.make("WARMUP", then=low, l="10%")), "it diverged: lower the range, and warm up"),
        ]
    accuracy = np.array([line["val_accuracy"] for line in history])
    if accuracy.max() < target / 2:
        why = f"it learnt little ({accuracy.max():.4f}) and did not diverge:"
        return [
            Change(str(scaled(one, factor)), f"{why} {word} the range by {max(factor, 1 / factor):g}")
            for factor, word in ((FAR, "raise"), (MANY, "raise"), (1 / MANY, "lower"))
        ]
    fixed = in_epochs(one, steps_per_epoch, epochs)
    start = plateau(accuracy, rows, epochs)
    at = start or math.floor(FALL_FROM * epochs)
    lrs = fixed.bind(steps_per_epoch=steps_per_epoch, total_steps=epochs * steps_per_epoch)
    lr = lrs(max(at * steps_per_epoch - 1, 0))
    what = f"plateau at {accuracy.max():.4f} from epoch {start} of {epochs}" if start else "no plateau yet"
    pieces = []
    if 0 < at < epochs and lr > 0:
        pieces.append(Change(_then(fixed, at, lr), f"{what}: from epoch {at} let the LR fall to 0"))
        if start and start < RAISE_UNTIL * epochs:
            pieces.append(
                Change(_then(fixed, at, FEW * lr), f"{what}: raise the LR there by {FEW:g}, then let it fall")
            )
    higher = Change(str(scaled(one, FEW)), f"extend the range upwards by {FEW:g}")
    lower = Change(str(scaled(one, 1 / FEW)), f"extend the range downwards by {FEW:g}")
    if _falls_steadily(history):
        why = f"the training loss falls steadily, so the LR may be low: {higher.why}"
        return [Change(higher.policy, why), *reversed(pieces), lower]
    return [*pieces, higher, lower]


def plateau(accuracy: NDArray[np.float64], rows: int, epochs: int) -> int | None:
    """The epoch (from 1) after which nothing new came, if that is long enough ago."""
    best = float(accuracy.max())
    good = np.flatnonzero(accuracy >= best - standard_error(best, rows))
    start = int(good[0]) + 1
    return start if len(accuracy) - start >= max(2, FLAT * epochs) else None


def scaled(policy: Policy, by: float) -> Policy:
    """The policy with its LR times `by`, in one SCALE however often it is scaled."""
    if policy.function == "SCALE" and policy["plus"] == 0:
        inner, before = policy["of"], policy["by"]
        assert isinstance(inner, Policy) and isinstance(before, float)
        policy, by = inner, by * before
    return Policy.make("SCALE", of=policy, by=_short(by))


def in_epochs(policy: Policy, steps_per_epoch: int, epochs: int) -> Policy:
    """The policy with all lengths in epochs: as it was in its budget, also inside a longer or shorter one."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        if isinstance(value, Policy):
            return Policy.make(value.function, **{name: plain(inner) for name, inner in value.parameters})
        return Length(float(f"{value.value / steps_per_epoch:.9g}"), "e") if isinstance(value, Length) else value

    bound: Policy = plain(policy.bind(steps_per_epoch=steps_per_epoch, total_steps=steps_per_epoch * epochs))
    return bound


def _then(first: Policy, at: int, k0: float) -> str:
    """`first` until epoch `at`, then down from `k0` to 0 over the rest: the second piece has a clock of its own."""
    return str(Policy.make("SEQ", of=[first, Policy.make("COS", k0=_short(k0), l="100%")], at=[f"{at}e"]))


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _falls_steadily(history: Sequence[Mapping[str, Any]]) -> bool:
    losses = np.array([line["train_loss"] for line in history if line.get("train_loss") is not None])
    last = np.diff(losses[len(losses) // 2 :])
    return len(last) > 0 and float(np.mean(last < 0)) >= STEADY
