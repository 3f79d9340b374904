"""Optimizers by name."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from lrensemble.errors import UserError, did_you_mean
from lrensemble.pool import Named
from lrensemble.training.groups import KEYS, parameter_groups


def build_optimizer(named: Named, model: nn.Module, *, fused: bool = False) -> torch.optim.Optimizer:
    """Build any optimizer of ``torch.optim`` by name. Its LR is 1 until a policy sets it.

    Beside the optimizer's own parameters it takes those of `training.groups`. `fused` asks for fused kernels; an
    optimizer that has none ignores it.
    """
    known: dict[str, Any] = {
        name: kind
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }
    by_lower_case = {name.lower(): kind for name, kind in known.items()}
    kind = by_lower_case.get(named.name.lower())
    if kind is None:
        raise UserError(f"unknown optimizer {named.name!r}: {did_you_mean(named.name, known)}")
    options = [name for name in inspect.signature(kind).parameters if name not in ("self", "params", "lr")]
    own = {name: value for name, value in named.parameters.items() if name not in KEYS}
    for name in own:
        if name == "lr":
            raise UserError(f"optimizer {named.name}: lr is what the policies are for; remove it")
        if name not in options:
            raise UserError(
                f"optimizer {named.name}: unknown parameter {name!r}: {did_you_mean(name, [*options, *KEYS])}"
            )
    # A user's own choice of implementation stands.
    chosen = {"fused", "foreach", "capturable", "differentiable"} & set(own)
    extra = {"fused": True} if fused and "fused" in options and not chosen else {}
    groups = parameter_groups(model, named.parameters, options) if set(KEYS) & set(named.parameters) else None
    try:
        optimizer: torch.optim.Optimizer = kind(groups or trainable(model), lr=1.0, **extra, **own)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise UserError(f"optimizer {named}: {error}") from None
    return optimizer


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
