"""Schedules under their usual names: each is a policy made of the functions of this package.

``cosine(k0=0.1, warmup=5%)`` (transformers) is ``WARMUP(COS(k0=0.1, l=100%), l=5%)``. The name is read and replaced;
what is stored and printed is the policy itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrensemble.policies.registry import Parameter
from lrensemble.policies.units import Length

if TYPE_CHECKING:
    from lrensemble.policies.policy import Policy


@dataclass(frozen=True)
class Alias:
    """A usual name: where it is from, its parameters, and the policy it stands for."""

    name: str
    source: str
    parameters: tuple[Parameter, ...]
    expand: Callable[..., Policy]


ALIASES: dict[str, Alias] = {}

K0 = Parameter("k0", "LR at the peak")
K1 = Parameter("k1", "LR at the end", default=0.0)
NONE = Length(0.0)
WARMUP = Parameter("warmup", "linear warm-up", kind="length", default=NONE)
START = Parameter("start", "LR at step 0", default=0.0)
WHOLE = "100%"


def _alias(name: str, source: str, *parameters: Parameter) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(expand: Callable[..., Any]) -> Callable[..., Any]:
        ALIASES[name] = Alias(name, source, parameters, expand)
        return expand

    return add


def _make(function: str, **parameters: Any) -> Policy:
    from lrensemble.policies.policy import Policy

    return Policy.make(function, **parameters)


def _after(warmup: Length, then: Policy, **more: Any) -> Policy:
    return _make("WARMUP", then=then, l=warmup, **more) if warmup.value else then


@_alias("CONSTANT", "transformers constant; torch ConstantLR(factor=1)", Parameter("k0", "LR"))
def constant(k0: float) -> Policy:
    return _make("FIX", k0=k0)


@_alias("CONSTANT_WITH_WARMUP", "transformers constant_with_warmup; DeepSpeed WarmupLR (linear)", K0, WARMUP, START)
def constant_with_warmup(k0: float, warmup: Length, start: float) -> Policy:
    return _after(warmup, _make("FIX", k0=k0), start=start)


@_alias("LINEAR", "transformers linear; DeepSpeed WarmupDecayLR (linear)", K0, WARMUP, START)
def linear(k0: float, warmup: Length, start: float) -> Policy:
    return _after(warmup, _make("POLY", k0=k0, p=1, l=WHOLE), start=start)


@_alias("COSINE", "transformers cosine, cosine_with_min_lr; DeepSpeed WarmupCosineLR", K0, WARMUP, K1, START)
def cosine(k0: float, warmup: Length, k1: float, start: float) -> Policy:
    return _after(warmup, _make("COS", k0=k0, k1=k1, l=WHOLE), start=start)


CYCLES = Parameter("cycles", "number of hard restarts", low=1.0, default=1.0)


@_alias("COSINE_WITH_RESTARTS", "transformers cosine_with_restarts", K0, WARMUP, CYCLES)
def cosine_with_restarts(k0: float, warmup: Length, cycles: float) -> Policy:
    return _after(warmup, _make("COSRSW", k0=k0, l=Length(100 / cycles, "%")))


@_alias("POLYNOMIAL", "transformers polynomial", K0, WARMUP, Parameter("p", "power", default=1.0), K1)
def polynomial(k0: float, warmup: Length, p: float, k1: float) -> Policy:
    return _after(warmup, _make("POLY", k0=k0, p=p, l=WHOLE, k1=k1))


@_alias(
    "INVERSE_SQRT",
    "transformers inverse_sqrt; Vaswani et al. 2017",
    K0,
    Parameter("warmup", "linear warm-up, and the time scale of the decay", kind="length", low_open=True),
)
def inverse_sqrt(k0: float, warmup: Length) -> Policy:
    return _after(warmup, _make("INV", k0=k0, gamma=1, p=0.5, per=warmup))


@_alias(
    "SGDR",
    "torch CosineAnnealingWarmRestarts(T_0=l, T_mult=mult); timm CosineLRScheduler(t_initial, cycle_mul, cycle_decay)",
    K0,
    Parameter("l", "length of the first round", kind="length", low_open=True),
    Parameter("mult", "growth of the rounds", low=1.0, high=100.0, default=1.0),
    Parameter("decay", "factor after every round", high=1.0, low_open=True, default=1.0),
    K1,
)
def sgdr(k0: float, l: Length, mult: float, decay: float, k1: float) -> Policy:  # noqa: E741
    return _make("REPEAT", of=_make("COS", k0=k0, k1=k1, l=WHOLE), l=l, grow=mult, decay=decay)
