"""The loss of every row, from its scores: what a model is trained on. The only place where one is computed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lrensemble.errors import UserError, did_you_mean


def cross_entropy(scores: Tensor, y: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """-log of the softmax at the class: (..., C), (...) -> (...)."""
    if scores.ndim == 2:  # nothing to flatten: views cost as much as the loss of a small batch
        return F.cross_entropy(scores, y, reduction="none", label_smoothing=label_smoothing)
    rows = F.cross_entropy(scores.flatten(0, -2), y.flatten(), reduction="none", label_smoothing=label_smoothing)
    return rows.view_as(y)


def focal(scores: Tensor, y: Tensor, *, label_smoothing: float = 0.0, gamma: float = 2.0) -> Tensor:
    """Cross entropy times (1 - p of the class)^gamma (Lin et al. 2017, equation 4)."""
    p = scores.softmax(-1).gather(-1, y[..., None]).squeeze(-1)
    return (1 - p) ** gamma * cross_entropy(scores, y, label_smoothing=label_smoothing)


def bce(scores: Tensor, y: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Binary cross entropy of every class against the rest, the mean over classes (Wightman et al. 2021, section 2)."""
    wanted = F.one_hot(y, scores.shape[-1]).to(scores.dtype)
    wanted = wanted * (1 - label_smoothing) + label_smoothing / scores.shape[-1]
    return F.binary_cross_entropy_with_logits(scores, wanted, reduction="none").mean(-1)


LOSSES = {"cross_entropy": cross_entropy, "focal": focal, "bce": bce}
_OPTIONS: dict[str, dict[str, type]] = {"cross_entropy": {}, "focal": {"gamma": float}, "bce": {}}


def check_loss(name: str, parameters: dict[str, Any]) -> None:
    """Raise `UserError` for a loss that does not exist, or parameters that it does not have."""
    if name not in LOSSES:
        raise UserError(f"unknown loss {name!r}: {did_you_mean(name, LOSSES)}")
    for key, value in parameters.items():
        if key == "weights":
            numbers = isinstance(value, list | tuple) and all(
                isinstance(v, int | float) and not isinstance(v, bool) and v >= 0 for v in value
            )
            if value != "balanced" and not (numbers and any(value)):
                raise UserError(f"loss {name}: weights = {value}: 'balanced', or a number >= 0 for every class")
        elif key not in _OPTIONS[name]:
            raise UserError(
                f"loss {name}: unknown parameter {key!r}: {did_you_mean(key, ['weights', *_OPTIONS[name]])}"
            )
        elif not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            raise UserError(f"loss {name}: {key} = {value} is not possible: a number >= 0 is needed")


def row_losses(scores: Tensor, batch: dict[str, Tensor], training: Any, class_counts: Sequence[int]) -> Tensor:
    """The loss that ``training.loss`` names, for every row of a batch, as ``mixup`` left it: (B,).

    Rows are weighted by the weight of their class. Weights are scaled so that their mean over the training rows is 1:
    a learning rate means the same with and without them.
    """
    check_loss(training.loss.name, training.loss.parameters)
    options = dict(training.loss.parameters)
    wanted = options.pop("weights", None)
    key = wanted if isinstance(wanted, str) else tuple(wanted or ())
    weights = _class_weights(tuple(class_counts), key, scores.device) if key else None

    def of(y: Tensor) -> Tensor:
        rows = LOSSES[training.loss.name](scores, y, label_smoothing=training.label_smoothing, **options)
        return rows if weights is None else rows * weights[y]

    if "other_y" not in batch:
        return of(batch["y"])
    return batch["share"] * of(batch["y"]) + (1 - batch["share"]) * of(batch["other_y"])


@functools.lru_cache(maxsize=64)
def _class_weights(counts: tuple[int, ...], wanted: str | tuple[float, ...], device: torch.device) -> Tensor:
    """Weights of the classes (C,): ``balanced`` is one over how often a class is (scikit-learn's)."""
    if not isinstance(wanted, str) and len(wanted) != len(counts):
        raise UserError(f"training.loss.weights has {len(wanted)} numbers, but there are {len(counts)} classes")
    rows = torch.tensor(counts, dtype=torch.float64)
    weights = 1 / rows.clamp_min(1) if isinstance(wanted, str) else torch.tensor(wanted, dtype=torch.float64)
    scale = rows.sum() / (weights * rows).sum()
    return (weights * scale).float().to(device)
