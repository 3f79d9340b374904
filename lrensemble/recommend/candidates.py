"""Policies to choose from: all 13 LR functions of Wu et al. 2019, with ranges around what worked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrensemble.policies import Policy, Space
from lrensemble.policies.units import format_number
from lrensemble.pool import RunSpec

PER_FUNCTION = 12  # random policies of every function
REACH = 3.0  # the peak LR may be so many times below and above those of the better half
UNKNOWN = (1e-3, 1.0)  # of the peak LR when nothing worked yet
FLOORS = (1e-4, 1e-2)  # of the lower LR of waves, as a share of the highest peak
SPACES = (
    "FIX(k0={k0})",
    "STEP(k0={k0}, gamma=uniform(0.1, 0.8), l=uniform(10%, 50%))",
    "NSTEP(k0={k0}, gamma=uniform(0.1, 0.5), l=[[50%, 75%], [30%, 60%, 80%], [80%]])",
    "EXP(k0={k0}, gamma=log(1e-3, 0.5), per=100%)",
    "INV(k0={k0}, gamma=log(1, 100), p=uniform(0.5, 1), per=100%)",
    "POLY(k0={k0}, p=uniform(0.5, 3), l=100%)",
    "TRI(k0={k0}, k1={k1}, l=uniform(5%, 50%))",
    "TRI2(k0={k0}, k1={k1}, l=uniform(5%, 25%))",
    "TRIEXP(k0={k0}, k1={k1}, l=uniform(5%, 25%), gamma=log(0.01, 0.5), per=100%)",
    "SIN(k0={k0}, k1={k1}, l=uniform(5%, 50%))",
    "SIN2(k0={k0}, k1={k1}, l=uniform(5%, 25%))",
    "SINEXP(k0={k0}, k1={k1}, l=uniform(5%, 25%), gamma=log(0.01, 0.5), per=100%)",
    "COS(k0={k0}, k1={k1}, l=[100%, 50%, 20%, 10%])",
)


def peak_range(peaks: Sequence[float], scores: Sequence[float], failed: Sequence[float]) -> tuple[float, float]:
    """Peak LRs to try: around those of the better half of the complete runs, or below those that failed.

    `scores` of the complete runs: lower is better (NLL).
    """
    if not len(peaks):
        return (min(failed) / 100, min(failed) / 2) if len(failed) else UNKNOWN
    better = np.argsort(scores, kind="stable")[: (len(peaks) + 1) // 2]
    chosen = np.asarray(peaks)[better]
    return float(f"{chosen.min() / REACH:.3g}"), float(f"{chosen.max() * REACH:.3g}")


def random_policies(low: float, high: float, seed: int) -> list[Policy]:
    """`PER_FUNCTION` policies of every function, with peak LRs in this range."""
    k0 = f"log({format_number(low)}, {format_number(high)})"
    k1 = f"log({format_number(high * FLOORS[0])}, {format_number(high * FLOORS[1])})"
    seeds = np.random.SeedSequence(seed).generate_state(len(SPACES))
    spaces = [Space.parse(text.format(k0=k0, k1=k1)) for text in SPACES]
    return [policy for space, s in zip(spaces, seeds, strict=True) for policy in space.sample(PER_FUNCTION, int(s))]


def candidate_specs(
    bases: Sequence[RunSpec], best: Sequence[RunSpec], taken: Sequence[RunSpec], low: float, high: float, seed: int
) -> list[RunSpec]:
    """Runs that could be trained next: random policies for every base, and the best runs again with fresh seeds.

    Parameters
    ----------
    bases : one run for each configuration (model, optimizer, budget) that may be trained
    best : the best runs so far
    taken : runs that are in the pool, whatever came of them
    """
    policies = random_policies(low, high, seed)
    specs = [base.model_copy(update={"policy": str(policy)}) for base in bases for policy in policies]
    fresh = 1 + max((spec.seed for spec in taken), default=0)
    specs += [spec.model_copy(update={"seed": fresh}) for spec in best]
    known = {spec.model_dump_json() for spec in taken}
    unique = {spec.model_dump_json(): spec for spec in specs}
    return [spec for text, spec in unique.items() if text not in known]
