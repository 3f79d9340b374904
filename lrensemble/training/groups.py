"""Parameter groups by configuration: which weights have another LR, or no decay, or are frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lrensemble.errors import UserError, did_you_mean
from lrensemble.patterns import find_pattern

KEYS = ("groups", "no_decay", "layer_decay")  # of an optimizer, beside its own parameters
Parameter = tuple[str, nn.Parameter]


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Take the parameters whose names match out of training; `UserError` when a pattern matches none, or all."""
    named = list(model.named_parameters())
    for pattern in patterns:
        for _, parameter in _matching(named, pattern, "training.freeze"):
            parameter.requires_grad_(False)
    if named and not any(parameter.requires_grad for _, parameter in named):
        raise UserError(f"training.freeze = {list(patterns)} freezes every parameter: nothing is left to train")


def parameter_groups(model: nn.Module, options: Mapping[str, Any], known: Sequence[str]) -> list[dict[str, Any]]:
    """Groups for an optimizer, whose LR is a ratio to the policy's.

    Parameters
    ----------
    options : dict
        ``groups``, a list of ``{params: PATTERN, lr: RATIO, weight_decay: ...}``, of which the first whose pattern is
        found in a parameter's name counts; ``no_decay`` true takes biases and norms (all parameters of one dimension)
        out of weight decay; ``layer_decay`` d multiplies the LR of the l-th layer from the top by d^l.
    known : sequence of str
        Options that a group of this optimizer can have.

    Raises
    ------
    UserError
        A pattern that is no regular expression or matches nothing, unknown options, impossible ratios.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    rules = [_checked(rule, known) for rule in options.get("groups", ())]
    chosen: dict[str, Mapping[str, Any]] = {}
    for rule in reversed(rules):  # the first that matches is written last
        chosen.update({name: rule for name, _ in _matching(named, rule["params"], "optimizer.groups")})
    depths = _depths(named)
    decay = _number("layer_decay", options.get("layer_decay", 1.0), 1.0)
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in named:
        values = {key: value for key, value in chosen.get(name, {}).items() if key != "params"}
        values["lr"] = values.get("lr", 1.0) * decay ** depths[name]
        if options.get("no_decay") and parameter.ndim <= 1:
            values.setdefault("weight_decay", 0.0)
        groups.setdefault(repr(sorted(values.items())), {"params": [], **values})["params"].append(parameter)
    return list(groups.values())


def _matching(named: Sequence[Parameter], pattern: str, where: str) -> list[Parameter]:
    groups = find_pattern(pattern, tuple(name for name, _ in named), where)
    found = [parameter for parameter, group in zip(named, groups, strict=True) if group is not None]
    if not found:
        raise UserError(f"{where}: {pattern!r} matches no parameter: {did_you_mean(pattern, [n for n, _ in named])}")
    return found


def _checked(rule: Any, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(rule, Mapping) or not isinstance(rule.get("params"), str):
        raise UserError(f"optimizer.groups: {rule!r} is no group: {{params: PATTERN, lr: RATIO, ...}} is needed")
    for key in rule:
        if key not in ("params", "lr", *known):
            raise UserError(f"optimizer.groups: unknown option {key!r}: {did_you_mean(key, ['params', 'lr', *known])}")
    return {**rule, "lr": _number("groups: lr", rule.get("lr", 1.0), 1e6)}


def _number(name: str, value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise UserError(f"optimizer.{name} = {value!r} is not possible: a number above 0, at most {most:g}, is needed")
    return float(value)


def _depths(named: Sequence[Parameter]) -> dict[str, int]:
    """Layers above each parameter; a layer is a module with parameters of its own, in the order of registration."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in named))
    return {name: len(layers) - 1 - layers.index(name.rpartition(".")[0]) for name, _ in named}
