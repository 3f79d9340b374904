"""Dictionaries of LRBench to the JSON form of policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies.lrbench import LRBENCH
from lrensemble.policies.registry import FUNCTIONS


def from_lrbench(
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]], boundaries: Sequence[float] = ()
) -> dict[str, Any]:
    """See `Policy.from_lrbench`."""
    if isinstance(parameters, Mapping):
        return _one(parameters)
    pieces = [_one(piece) for piece in parameters]
    return {"policy": "SEQ", "of": pieces, "at": list(boundaries)} if len(pieces) > 1 else pieces[0]


def _one(parameters: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in parameters.items() if value is not None}
    name = given.pop("lrPolicy", None)
    if name not in LRBENCH:
        raise UserError(f"lrPolicy = {name!r} is not one of LRBench's: {did_you_mean(name, LRBENCH)}")
    known = {p.name for p in FUNCTIONS[name].parameters} & {"k0", "k1", "gamma", "p", "l"}
    if unknown := set(given) - {"k0", "k1", "gamma", "p", "l"}:
        raise UserError(f"LRBench's {name}: unknown key {min(unknown)!r}: {did_you_mean(min(unknown), known)}")
    # LRBench ignores what a function does not use (k1 of the decaying ones, for example).
    used = {key: given[key] for key in given if key in known}
    decaying = name in ("FIX", "STEP", "NSTEP", "EXP", "INV", "SIG")
    if decaying:
        used.pop("k1", None)
        return {"policy": name, **used}
    if missing := {"k0", "k1"} - set(used):
        raise UserError(f"LRBench's {name}: {min(missing)} is missing")
    k0, k1 = float(used["k0"]), float(used["k1"])
    if name == "POLY":  # LRBench has the end in k0 and the start in k1
        used["k0"], used["k1"] = max(k0, k1), min(k0, k1)
    policy = {"policy": name, **used}
    # LRBench's k0 + (k1 - k0) g(t): for k0 > k1 that is the wave upside down.
    return policy if k0 <= k1 else {"policy": "SCALE", "of": policy, "by": -1, "plus": k0 + k1}
