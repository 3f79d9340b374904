"""Schedules under their usual names: each is a policy made of the functions of this package.

``cosine(k0=0.1, warmup=5%)`` (transformers) is ``WARMUP(COS(k0=0.1, l=100%), l=5%)``. The name is read and replaced;
what is stored and printed is the policy itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lrensemble.plugins import home_of
from lrensemble.policies.registry import ALIASES, DEFINITIONS, Alias, Parameter, check_name
from lrensemble.policies.units import Length

Tree = dict[str, Any]  # the JSON form of a policy
K0 = Parameter("k0", "LR at the peak")
K1 = Parameter("k1", "LR at the end", default=0.0)
WARMUP = Parameter("warmup", "linear warm-up", kind="length", default=Length(0.0), example="5%")
START = Parameter("start", "LR at step 0", default=0.0)
WHOLE = "100%"


def _alias(name: str, source: str, *parameters: Parameter) -> Callable[[Any], Any]:
    def add(expand: Callable[..., Tree]) -> Callable[..., Tree]:
        check_name(name, expand, [p.name for p in parameters])
        made = Alias(name=name, source=source, parameters=parameters, expand=expand)
        DEFINITIONS.add(name, made, home_of(expand))
        ALIASES[name] = made
        return expand

    return add


def _tree(function: str, **parameters: Any) -> Tree:
    return {"policy": function, **parameters}


def _after(warmup: Length, then: Tree, **more: Any) -> Tree:
    return _tree("WARMUP", then=then, l=warmup, **more) if warmup.value else then


@_alias("CONSTANT", "transformers constant; torch ConstantLR(factor=1)", Parameter("k0", "LR"))
def constant(k0: float) -> Tree:
    return _tree("FIX", k0=k0)


@_alias("CONSTANT_WITH_WARMUP", "transformers constant_with_warmup; DeepSpeed WarmupLR (linear)", K0, WARMUP, START)
def constant_with_warmup(k0: float, warmup: Length, start: float) -> Tree:
    return _after(warmup, _tree("FIX", k0=k0), start=start)


@_alias("LINEAR", "transformers linear; DeepSpeed WarmupDecayLR (linear)", K0, WARMUP, START)
def linear(k0: float, warmup: Length, start: float) -> Tree:
    return _after(warmup, _tree("POLY", k0=k0, p=1, l=WHOLE), start=start)


@_alias("COSINE", "transformers cosine, cosine_with_min_lr; DeepSpeed WarmupCosineLR", K0, WARMUP, K1, START)
def cosine(k0: float, warmup: Length, k1: float, start: float) -> Tree:
    return _after(warmup, _tree("COS", k0=k0, k1=k1, l=WHOLE), start=start)


CYCLES = Parameter("cycles", "number of hard restarts", low=1.0, default=1.0, example="4")


@_alias("COSINE_WITH_RESTARTS", "transformers cosine_with_restarts", K0, WARMUP, CYCLES)
def cosine_with_restarts(k0: float, warmup: Length, cycles: float) -> Tree:
    return _after(warmup, _tree("COSRSW", k0=k0, l=Length(100 / cycles, "%")))


@_alias("POLYNOMIAL", "transformers polynomial", K0, WARMUP, Parameter("p", "power", default=1.0), K1)
def polynomial(k0: float, warmup: Length, p: float, k1: float) -> Tree:
    return _after(warmup, _tree("POLY", k0=k0, p=p, l=WHOLE, k1=k1))


@_alias(
    "INVERSE_SQRT",
    "transformers inverse_sqrt; Vaswani et al. 2017",
    K0,
    Parameter("warmup", "linear warm-up, and the time scale of the decay", kind="length", low_open=True),
)
def inverse_sqrt(k0: float, warmup: Length) -> Tree:
    return _after(warmup, _tree("INV", k0=k0, gamma=1, p=0.5, per=warmup))


@_alias(
    "SGDR",
    "torch CosineAnnealingWarmRestarts(T_0=l, T_mult=mult); timm CosineLRScheduler(t_initial, cycle_mul, cycle_decay)",
    K0,
    Parameter("l", "length of the first round", kind="length", low_open=True),
    Parameter("mult", "growth of the rounds", low=1.0, high=100.0, default=1.0, example="2"),
    Parameter("decay", "factor after every round", high=1.0, low_open=True, default=1.0),
    K1,
)
def sgdr(k0: float, l: Length, mult: float, decay: float, k1: float) -> Tree:  # noqa: E741
    return _tree("REPEAT", of=_tree("COS", k0=k0, k1=k1, l=WHOLE), l=l, grow=mult, decay=decay)
