"""Optimizers by name: torch's, and those of packages whose optimizers need no schedule."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lrensemble.errors import UserError, did_you_mean
from lrensemble.installing import install
from lrensemble.pool import Named
from lrensemble.training.groups import KEYS, parameter_groups

PACKAGES = ("schedulefree", "prodigyopt")  # whose optimizers may be named ``package.Class``: nothing else is imported


def build_optimizer(named: Named, model: nn.Module, *, fused: bool = False) -> torch.optim.Optimizer:
    """Build any optimizer of ``torch.optim`` (or of `PACKAGES`) by name. Its LR is 1 until a policy sets it.

    Beside the optimizer's own parameters it takes those of `training.groups`. `fused` asks for fused kernels; an
    optimizer that has none ignores it.
    """
    known = _known(named.name)
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
    set_mode(optimizer, training=True)
    return optimizer


def _known(name: str) -> dict[str, Any]:
    """Classes by the names that they may have in a configuration, of the package that `name` is of."""
    package = name.rpartition(".")[0]
    if package and package not in PACKAGES:
        raise UserError(f"optimizer {name!r}: {did_you_mean(package, PACKAGES)} are the packages beside torch")
    try:
        module = importlib.import_module(package or "torch.optim")
    except ImportError as error:
        raise UserError(f"optimizer {name} needs a package: {install('lrfree')} ({error})") from None
    return {
        f"{package}.{key}" if package else key: kind
        for key, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }


def set_mode(optimizer: torch.optim.Optimizer, *, training: bool) -> bool:
    """Give the parameters what is trained, or what is evaluated; False: for this optimizer they are the same."""
    switch = getattr(optimizer, "train" if training else "eval", None)
    if switch is None:
        return False
    switch()
    return True


def load_exactly(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """`load_state_dict`, which gives moments the type of their parameters, and then the moments as they were."""
    optimizer.load_state_dict(dict(state))
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        held = optimizer.state[parameter] if number in state["state"] else {}
        for name, value in held.items():
            saved = state["state"][number][name]
            if isinstance(value, torch.Tensor) and value.dtype != saved.dtype:
                held[name] = saved.to(value.device)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
