"""Policies made of policies: pieces, warm-up, scale, clip, repeat; and a table of points.

An inner policy has a clock and a budget of its own where that is natural: in ``WARMUP(COS(k0=0.1, l=100%), l=5e)`` the
cosine starts after the warm-up, and its 100 % are what is left then. With ``clock=global`` it counts from step 0 and
its shares are of the whole budget.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.policies.lrbench import powers
from lrensemble.policies.registry import Parameter, register
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
LR = Callable[[Any], Any]


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
    Parameter("at", "where the next one starts", kind="lengths", low_open=True),
    CLOCK,
    inner_budgets=_piece_budgets,
    check=_pieces_fit,
)
def seq(m: Any, of: tuple[LR, ...], at: tuple[float, ...], clock: str) -> LR:
    starts = [0.0, *(at if clock == "own" else [0.0] * len(at))]
    if m is math:

        def lr(t: Any) -> Any:
            piece = bisect.bisect_right(at, t)
            return of[piece](t - starts[piece])

        return lr

    def lrs(t: Any) -> Any:
        piece = np.searchsorted(at, t, side="right")
        values = np.empty(t.shape)
        for j, (one, start) in enumerate(zip(of, starts, strict=True)):
            inside = piece == j
            values[inside] = one(t[inside] - start)
        return values

    return lrs


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
def warmup(m: Any, then: LR, l: float, start: float, shape: str, clock: str) -> LR:  # noqa: E741
    if l == 0:
        return then
    shift = l if clock == "own" else 0.0
    rise: LR = {
        "linear": lambda t: t / l,
        # ln(t + 1) / ln(l) reaches 1 one step before l: DeepSpeed's formula
        "log": (lambda t: m.log(t + 1) / math.log(l)) if l > 1 else (lambda t: t * 0.0 + 1.0),
        "cos": lambda t: 0.5 * (1 - m.cos(math.pi * t / l)),
    }[shape]
    if m is math:
        peak = then(l - shift)
        return lambda t: then(t - shift) if t >= l else start + (peak - start) * min(rise(t), 1.0)
    top = then(np.array([l - shift]))[0]

    def lrs(t: Any) -> Any:
        values, early = np.empty(t.shape), t < l
        values[early] = start + (top - start) * np.minimum(rise(t[early]), 1.0)
        values[~early] = then(t[~early] - shift)
        return values

    return lrs


@register(
    "SCALE",
    "LR = max(0, by * of(t) + plus)",
    ALGEBRA,
    OF,
    Parameter("by", "factor", low=-math.inf, default=1.0),
    Parameter("plus", "what is added", low=-math.inf, default=0.0),
)
def scale(m: Any, of: LR, by: float, plus: float) -> LR:
    if m is math:

        def lr(t: Any) -> Any:
            value = by * of(t) + plus
            return value if value > 0 else 0.0

        return lr
    return lambda t: np.maximum(0.0, by * of(t) + plus)


def _low_below_high(values: dict[str, Any]) -> None:
    if values["low"] > values["high"]:
        raise UserError(f"CLIP: low = {values['low']} is above high = {values['high']}")


@register(
    "CLIP",
    "LR = of(t) kept between low and high",
    ALGEBRA,
    OF,
    Parameter("low", "floor of the LR", default=0.0),
    Parameter("high", "ceiling of the LR", default=1e300),
    check=_low_below_high,
)
def clip(m: Any, of: LR, low: float, high: float) -> LR:
    if m is math:

        def lr(t: Any) -> Any:
            value = of(t)
            return low if value < low else high if value > high else value

        return lr
    return lambda t: np.clip(of(t), low, high)


@register(
    "REPEAT",
    "LR = decay^i * of(stretched time in round i); round i takes l * grow^i",
    "Loshchilov & Hutter 2017 (SGDR) for grow = T_mult",
    OF,
    Parameter("l", "length of the first round", kind="length", low_open=True),
    Parameter("grow", "how much longer every round is than the one before", low=1.0, high=100.0, default=1.0),
    Parameter("decay", "factor of the LR after every round", high=1.0, low_open=True, default=1.0),
    inner_budgets=lambda values, total: {"of": [max(1.0, values["l"].value)]},
)
def repeat(m: Any, of: LR, l: float, grow: float, decay: float) -> LR:  # noqa: E741
    def begins(i: Any) -> Any:
        return l * (grow**i - 1) / (grow - 1)

    def one(t: Any) -> Any:
        if grow == 1.0:
            return decay ** math.floor(t / l) * of(t % l)
        # The logarithm can be off by one at a boundary; the boundaries themselves are exact.
        i = math.floor(math.log(t / l * (grow - 1) + 1) / math.log(grow))
        i += (t >= begins(i + 1)) - (t < begins(i))
        return decay**i * of((t - begins(i)) / grow**i)

    def many(t: Any) -> Any:
        if grow == 1.0:
            return powers(np, decay)(np.floor(t / l)) * of(t % l)
        i = np.floor(np.log(t / l * (grow - 1) + 1) / math.log(grow))
        i += (t >= begins(i + 1)).astype(float) - (t < begins(i))
        return decay**i * of((t - begins(i)) / grow**i)

    return one if m is math else many


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
def points(m: Any, at: tuple[float, ...], k: tuple[float, ...], between: str) -> LR:
    last = len(at) - 1
    if between == "hold":
        if m is math:
            return lambda t: k[max(bisect.bisect_right(at, t) - 1, 0)]
        table = np.asarray(k)
        return lambda t: table[np.maximum(np.searchsorted(at, t, side="right") - 1, 0)]
    if m is not math:
        return lambda t: np.interp(t, at, k)

    def lr(t: Any) -> Any:
        j = bisect.bisect_right(at, t) - 1
        if j < 0 or j == last:
            return k[max(j, 0)]
        return k[j] + (k[j + 1] - k[j]) / (at[j + 1] - at[j]) * (t - at[j])

    return lr
