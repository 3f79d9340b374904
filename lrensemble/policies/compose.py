"""Policies made of policies: pieces, warm-up, scale, clip, repeat; and a table of points.

An inner policy has a clock and a budget of its own where that is natural: in ``WARMUP(COS(k0=0.1, l=100%), l=5e)`` the
cosine starts after the warm-up, and its 100 % are what is left then. With ``clock=global`` it counts from step 0 and
its shares are of the whole budget.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.policies.lrbench import power
from lrensemble.policies.registry import LR, Parameter, Steps, register
from lrensemble.policies.units import may_ascend

OF = Parameter("of", "the policy that is changed", kind="policy")
CLOCK = Parameter(
    "clock",
    "whether inner policies count from where they start (own) or from step 0 (global)",
    kind="word",
    words=("own", "global"),
    default="own",
)
COMPOSITE = "Wu & Liu 2023, composite policies; LRBench, piecewiseLR.py"
ALGEBRA = "lrensemble"


def _pieces_fit(values: dict[str, Any]) -> None:
    pieces, at = values["of"], values["at"]
    if len(at) != len(pieces) - 1:
        raise UserError(
            f"SEQ: {len(pieces)} policies have {len(pieces) - 1} boundaries, `at` has {len(at)}: "
            "SEQ([FIX(0.1), FIX(0.01)], at=[50%])"
        )
    _ascending("SEQ", at)


def _ascending(function: str, at: tuple[Any, ...]) -> None:
    """Checked again when bound: boundaries of mixed units can cross."""
    if not may_ascend(at):
        raise UserError(f"{function}: the boundaries at = [{', '.join(map(str, at))}] do not ascend")


def _piece_budgets(values: dict[str, Any], total: float) -> dict[str, list[float]]:
    if values["clock"] == "global":
        return {}
    edges = [0.0, *(length.value for length in values["at"]), total]
    return {"of": [max(1.0, b - a) for a, b in itertools.pairwise(edges)]}


@register(
    "SEQ",
    "LR = of[j] from at[j-1] to at[j]",
    COMPOSITE,
    Parameter("of", "the policies, one after the other", kind="policies"),
    Parameter("at", "where the next one starts", kind="lengths", low_open=True, example="[60%]"),
    CLOCK,
    inner_budgets=_piece_budgets,
    check=_pieces_fit,
)
def seq(t: Steps, of: tuple[LR, ...], at: tuple[float, ...], clock: str) -> Steps:
    starts = [0.0, *(at if clock == "own" else [0.0] * len(at))]
    piece = np.searchsorted(at, t, side="right")
    values = np.empty(t.shape)
    for j, (lr, start) in enumerate(zip(of, starts, strict=True)):
        inside = piece == j
        if inside.any():
            values[inside] = lr(t[inside] - start)
    return values


def _rest(values: dict[str, Any], total: float) -> dict[str, list[float]]:
    return {} if values["clock"] == "global" else {"then": [max(1.0, total - values["l"].value)]}


@register(
    "WARMUP",
    "LR = start + (peak - start) * shape(t / l) before l, then the policy",
    "Goyal et al. 2017; log: DeepSpeed, WarmupLR",
    Parameter("then", "the policy after the warm-up", kind="policy"),
    Parameter("l", "how long it takes", kind="length"),
    Parameter("start", "LR at step 0", default=0.0),
    Parameter("shape", "how it rises", kind="word", words=("linear", "log", "cos"), default="linear"),
    CLOCK,
    inner_budgets=_rest,
)
def warmup(t: Steps, then: LR, l: float, start: float, shape: str, clock: str) -> Steps:  # noqa: E741
    if l == 0:
        return then(t)
    shift = l if clock == "own" else 0.0
    rise: LR = {
        "linear": lambda t: t / l,
        # ln(t + 1) / ln(l) reaches 1 one step before l: DeepSpeed's formula
        "log": (lambda t: np.log(t + 1) / math.log(l)) if l > 1 else np.ones_like,
        "cos": lambda t: 0.5 * (1 - np.cos(math.pi * t / l)),
    }[shape]
    values, early = np.empty(t.shape), t < l
    if early.any():
        peak = then(np.array([l - shift]))[0]
        values[early] = start + (peak - start) * np.minimum(rise(t[early]), 1.0)
    if not early.all():
        values[~early] = then(t[~early] - shift)
    return values


@register(
    "SCALE",
    "LR = max(0, by * of(t) + plus)",
    ALGEBRA,
    OF,
    Parameter("by", "factor", low=-math.inf, default=1.0, example="0.5"),
    Parameter("plus", "what is added", low=-math.inf, default=0.0),
)
def scale(t: Steps, of: LR, by: float, plus: float) -> Steps:
    return np.maximum(0.0, by * of(t) + plus)


def _low_below_high(values: dict[str, Any]) -> None:
    if values["low"] > values["high"]:
        raise UserError(f"CLIP: low = {values['low']} is above high = {values['high']}")


@register(
    "CLIP",
    "LR = of(t) kept between low and high",
    ALGEBRA,
    OF,
    Parameter("low", "floor of the LR", default=0.0, example="0.01"),
    Parameter("high", "ceiling of the LR", default=1e300),
    check=_low_below_high,
)
def clip(t: Steps, of: LR, low: float, high: float) -> Steps:
    return np.clip(of(t), low, high)


@register(
    "REPEAT",
    "LR = decay^i * of(stretched time in round i); round i takes l * grow^i",
    "Loshchilov & Hutter 2017 (SGDR) for grow = T_mult",
    OF,
    Parameter("l", "length of the first round", kind="length", low_open=True),
    Parameter("grow", "how much longer every round is than the one before", low=1.0, high=100.0, default=1.0),
    Parameter("decay", "factor of the LR after every round", high=1.0, low_open=True, default=1.0, example="0.7"),
    inner_budgets=lambda values, total: {"of": [max(1.0, values["l"].value)]},
)
def repeat(t: Steps, of: LR, l: float, grow: float, decay: float) -> Steps:  # noqa: E741
    if grow == 1.0:
        return power(decay, np.floor(t / l)) * of(t % l)

    def rounds(t: Steps) -> Steps:
        """Which round a step is in; rounding can make it one too many or too few."""
        return np.floor(np.log(t / l * (grow - 1) + 1) / math.log(grow))

    first, last = rounds(np.array([t.min(), t.max()]))
    near = np.arange(first, last + 1) if last - first < t.size else rounds(t)
    i = np.unique(np.maximum(np.concatenate([near - 1, near, near + 1]), 0.0))
    begins, stretch = l * (grow**i - 1) / (grow - 1), grow**i
    inside = np.searchsorted(begins, t, side="right") - 1
    return power(decay, i)[inside] * of((t - begins[inside]) / stretch[inside])


def _points_fit(values: dict[str, Any]) -> None:
    if len(values["at"]) != len(values["k"]):
        raise UserError(f"POINTS: {len(values['at'])} places `at`, but {len(values['k'])} values `k`")
    _ascending("POINTS", values["at"])


@register(
    "POINTS",
    "LR = k[j] at at[j], interpolated; constant before the first and after the last",
    ALGEBRA,
    Parameter("at", "where", kind="lengths"),
    Parameter("k", "LR there", kind="numbers"),
    Parameter(
        "between", "linear, or hold the value until the next point", "word", words=("linear", "hold"), default="linear"
    ),
    check=_points_fit,
)
def points(t: Steps, at: tuple[float, ...], k: tuple[float, ...], between: str) -> Steps:
    if between == "linear":
        return np.interp(t, at, k)
    return np.asarray(k)[np.maximum(np.searchsorted(at, t, side="right") - 1, 0)]
