"""Policies as parameters of an Optuna trial, and the search space that samplers draw from.

The policy's text is the truth; parameters are what samplers and the dashboard see of it. A name is the dotted path in
the policy: ``function``, ``k0`` and ``k1`` (shared by all functions, so that what is learnt of an LR range under one
helps the others), ``TRI.l``, ``of.0.function``, ``of.0.STEP.gamma``. Lengths are in percent of the budget that the
function has.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lrensemble.policies import FUNCTIONS, Length, Parameter, Policy, Range, Space
from lrensemble.recommend.candidates import CHOICES, PLAIN, SEARCHED
from lrensemble.recommend.store import load_optuna

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

SHARED = ("k0", "k1")
LOGARITHMIC = (*SHARED, "INV.gamma")
DIGITS = 3  # significant ones of a searched value: more say nothing, and texts stay readable
SMALLEST = 1e-12  # stands for 0 where values are logarithmic


def parameters_of(
    policy: Policy, *, steps_per_epoch: int, total_steps: float
) -> dict[str, tuple[float | str, BaseDistribution]]:
    """Every given parameter of a policy: name -> (value, distribution that contains it)."""
    found: dict[str, tuple[float | str, BaseDistribution]] = {}
    _flatten(policy, "", steps_per_epoch, total_steps, found)
    return found


def policy_of(parameters: Mapping[str, Any], prefix: str = "") -> Policy:
    """Inverse of `parameters_of`: the same curve, with lengths in percent and `SMALLEST` for 0 where it is an LR."""
    function = str(parameters.get(f"{prefix}function") or parameters[f"{prefix}other"])
    values: dict[str, Any] = {}
    for parameter in FUNCTIONS[function].parameters:
        name = _name(prefix, function, parameter)

        def read(path: str, lengths: bool = parameter.kind.startswith("length")) -> Any:
            if f"{path}.function" in parameters or f"{path}.other" in parameters:
                return policy_of(parameters, f"{path}.")
            value = parameters.get(path)
            return Length(value, "%") if lengths and value is not None else value

        if not parameter.is_list:
            items = [read(name)]
        else:
            names = (f"{name}.{i}" for i in itertools.count())
            items = list(itertools.takewhile(lambda item: item is not None, map(read, names)))
        if items and items[0] is not None:
            values[parameter.name] = items if parameter.is_list else items[0]
    return Policy.make(function, **values)


def suggest(trial: optuna.Trial, k0: tuple[float, float]) -> Policy:
    """Draw a policy: any function of `CHOICES`, homogeneous and heterogeneous composites of two, and warm-ups.

    `k0` is the range of the peak LR. The floor of a cyclic function is drawn from the two decades below that range.
    """
    values: dict[str, Any] = {}
    _draw(trial, k0, "", values)
    return policy_of(values)


def _draw(trial: optuna.Trial, k0: tuple[float, float], prefix: str, values: dict[str, Any]) -> None:
    def draw(name: str, low: float, high: float, log: bool = False) -> None:
        value = trial.suggest_float(name, low, high, log=log)
        values[name] = min(max(float(f"{value:.{DIGITS}g}"), low), high)

    function = trial.suggest_categorical(f"{prefix}function", PLAIN if prefix else CHOICES)
    values[f"{prefix}function"] = function
    if function == "SEQ":
        _draw(trial, k0, "of.0.", values)
        _draw(trial, (k0[0] / 10, k0[1]), "of.1.", values)  # LRs mostly fall
        draw("SEQ.at.0", 10, 90)
        return
    if function == "WARMUP":
        _draw(trial, k0, "then.", values)
        draw("WARMUP.l", 1, 20)
        return
    for name, value in _arguments(function, k0).items():
        if isinstance(value, Range):
            draw(_shared(prefix, name), value.low, value.high, value.kind == "log")
        else:
            draw(_shared(prefix, name), value, value)


def _arguments(function: str, k0: tuple[float, float]) -> dict[str, Range | float]:
    """What is drawn for a function: ``POLY.p`` -> range, ``POLY.l`` -> 100; lists by their index."""
    ranges = {"k0": Range("log", *k0), "k1": Range("log", k0[0] / 100, k0[0])}
    text = SEARCHED[function].format(**{name: str(one) for name, one in ranges.items()})
    found = {}
    for name, value in Space.parse(text).call.arguments.items():
        items = {f".{i}": item for i, item in enumerate(value)} if isinstance(value, list) else {"": value}
        for index, item in items.items():
            found[f"{function}.{name}{index}"] = item if isinstance(item, Range) else item.value
    return found


@functools.cache
def _searched() -> dict[str, Range]:
    """The ranges of all functions by the name of the parameter; the LRs' are as wide as anybody may want."""
    found = {"k0": Range("log", 1e-6, 10.0), "k1": Range("log", 1e-8, 10.0)}
    for function in PLAIN:
        some = _arguments(function, (1e-4, 1.0))
        found |= {name: one for name, one in some.items() if isinstance(one, Range) and _shared("", name) == name}
    return found


def _name(prefix: str, function: str, parameter: Parameter) -> str:
    if parameter.kind in ("policy", "policies"):
        return prefix + parameter.name
    return _shared(prefix, f"{function}.{parameter.name}")


def _shared(prefix: str, name: str) -> str:
    """``TRI.k0`` is ``k0``, ``TRI.l`` stays."""
    parameter = name.split(".")[1]
    return prefix + (parameter if parameter in SHARED else name)


def _number(name: str, prefix: str, value: float) -> tuple[float, BaseDistribution]:
    kind = name.removeprefix(prefix)
    log = kind in LOGARITHMIC
    if log:
        value = max(value, SMALLEST)
    usual = _searched().get(kind)
    low, high = (usual.low, usual.high) if usual else (value, value)
    return value, load_optuna().distributions.FloatDistribution(min(low, value), max(high, value), log=log)


def _flatten(policy: Policy, prefix: str, steps_per_epoch: int, total: float, found: dict[str, Any]) -> None:
    categorical = load_optuna().distributions.CategoricalDistribution
    choices = PLAIN if prefix else CHOICES
    if policy.function in choices:
        found[f"{prefix}function"] = (policy.function, categorical(choices))
    else:
        found[f"{prefix}other"] = (policy.function, categorical(sorted(FUNCTIONS)))

    def in_steps(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(in_steps, value))
        return value.in_steps(steps_per_epoch, total) if isinstance(value, Length) else value

    definition = FUNCTIONS[policy.function]
    budgets = definition.inner_budgets({name: in_steps(value) for name, value in policy.parameters}, total)
    given = policy.to_dict()  # without defaults
    for parameter in definition.parameters:
        if parameter.name not in given:
            continue
        value, path = policy[parameter.name], _name(prefix, policy.function, parameter)
        items = [(f"{path}.{i}", item) for i, item in enumerate(value)] if parameter.is_list else [(path, value)]
        for (name, item), inner in zip(items, budgets.get(parameter.name, [total] * len(items)), strict=True):
            if isinstance(item, Policy):
                _flatten(item, f"{name}.", steps_per_epoch, inner, found)
            elif isinstance(item, str):
                found[name] = (item, categorical(parameter.words))
            elif isinstance(item, Length):
                percent = item.value if item.unit == "%" else in_steps(item).value / total * 100
                found[name] = _number(name, prefix, percent)
            else:
                found[name] = _number(name, prefix, item)
