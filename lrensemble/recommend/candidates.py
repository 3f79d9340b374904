"""The policies that are tried: what is searched, what a search begins with, what is proposed, and the baselines."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

import numpy as np

from lrensemble.policies import LRBENCH, Policy, Space
from lrensemble.policies.units import format_number
from lrensemble.pool import RunSpec

AGAIN = 3  # of the best policies may be trained again with a fresh seed
PER_FUNCTION = 12  # random policies of every function
REACH = 3.0  # the peak LR may be so many times below and above those of the better half
UNKNOWN = (1e-3, 1.0)  # of the peak LR when nothing worked yet
FLOORS = (1e-4, 1e-2)  # of the lower LR of waves, as a share of the highest peak
# What is proposed for a team: all 13 functions of Wu et al. 2019.
PROPOSED = (
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
EXP_GAMMA = "gamma=uniform(0.95, 0.999), per=1%"
# What Optuna searches in every function; {k0} and {k1} are the ranges of the LR at its two ends.
SEARCHED = {
    "FIX": "FIX(k0={k0})",
    "STEP": "STEP(k0={k0}, gamma=uniform(0.1, 0.7), l=uniform(5%, 60%))",
    "NSTEP": "NSTEP(k0={k0}, gamma=uniform(0.05, 0.5), l=[uniform(20%, 65%), uniform(66%, 95%)])",
    "EXP": "EXP(k0={k0}, gamma=uniform(0.92, 0.995), per=1%)",
    "INV": "INV(k0={k0}, gamma=log(0.01, 1), p=uniform(0.5, 2), per=1%)",
    "POLY": "POLY(k0={k0}, p=uniform(0.5, 4), l=100%)",
    "SIG": "SIG(k0={k0}, gamma=uniform(-1, -0.05), l=uniform(20%, 80%), per=1%)",
    **{wave: f"{wave}(k0={{k0}}, k1={{k1}}, l=uniform(5%, 100%))" for wave in ("TRI", "DTRI", "SIN", "DSIN")},
    **{wave: f"{wave}(k0={{k0}}, k1={{k1}}, l=uniform(5%, 100%))" for wave in ("COS", "UPCOS")},
    **{saw: f"{saw}(k0={{k0}}, k1={{k1}}, l=uniform(10%, 100%))" for saw in ("RSW", "SINRSW", "COSRSW")},
    "ONECYCLE": "ONECYCLE(k0={k0}, up=uniform(0.05, 0.5))",
    "WSD": "WSD(k0={k0}, decay=uniform(10%, 60%))",
    "KNEE": "KNEE(k0={k0}, hold=uniform(10%, 80%))",
}
for _form in [name for name in LRBENCH if name not in SEARCHED]:
    _wave = _form.removesuffix("2").removesuffix("EXP")
    _more = f", {EXP_GAMMA}" if _form.endswith("EXP") else ""
    SEARCHED[_form] = SEARCHED[_wave].removesuffix(")") + f"{_more})"
PLAIN = tuple(sorted(SEARCHED))  # functions without policies inside
COMPOSITES = ("SEQ", "WARMUP")
CHOICES = (*PLAIN, *COMPOSITES)
# Where a search begins: what people use, at the upper end of the range and below it.
FIRST = (
    "COS(k0={high}, l=100%)",
    "ONECYCLE(k0={high})",
    "POLY(k0={middle}, p=1, l=100%)",
    "EXP(k0={middle}, gamma=0.96, per=1%)",
    "STEP(k0={middle}, gamma=0.3, l=25%)",
    "WSD(k0={middle})",
    "TRI2(k0={high}, k1={low}, l=12.5%)",
    "FIX(k0={middle})",
)
# Caffe: examples/mnist/lenet_solver.prototxt; examples/cifar10/cifar10_full_solver.prototxt (60,000 of 70,000 steps,
# then twice a tenth); models/bvlc_reference_caffenet/solver.prototxt (step 100,000 of 450,000) for everything else.
CAFFE = {
    "lenet": "INV(k0=0.01, gamma=0.0001, p=0.75)",
    "cnn3": "NSTEP(k0=0.001, gamma=0.1, l=[85.7%, 92.9%])",
}
CAFFENET = "STEP(k0=0.01, gamma=0.1, l=22.2%)"
IMAGENET = "STEP(k0=0.1, gamma=0.1, l=33.3%)"  # pytorch/examples and torchvision: 0.1, a tenth every 30 of 90 epochs


def peak_range(
    peaks: Sequence[float], scores: Sequence[float], failed: Sequence[float], share: float = 0.5
) -> tuple[float, float]:
    """Peak LRs to try: around those of the best `share` of the complete runs, or below those that failed.

    `scores` of the complete runs: lower is better (NLL).
    """
    if not len(peaks):
        return (min(failed) / 100, min(failed) / 2) if len(failed) else UNKNOWN
    better = np.argsort(scores, kind="stable")[: max(1, math.ceil(share * len(peaks)))]
    chosen = np.asarray(peaks)[better]
    return float(f"{chosen.min() / REACH:.3g}"), float(f"{chosen.max() * REACH:.3g}")


def random_policies(low: float, high: float, seed: int) -> list[Policy]:
    """`PER_FUNCTION` policies of every function, with peak LRs in this range."""
    k0 = f"log({format_number(low)}, {format_number(high)})"
    k1 = f"log({format_number(high * FLOORS[0])}, {format_number(high * FLOORS[1])})"
    seeds = np.random.SeedSequence(seed).generate_state(len(PROPOSED))
    spaces = [Space.parse(text.format(k0=k0, k1=k1)) for text in PROPOSED]
    return [policy for space, s in zip(spaces, seeds, strict=True) for policy in space.sample(PER_FUNCTION, int(s))]


def candidate_specs(
    bases: Sequence[RunSpec], best: Sequence[RunSpec], taken: Sequence[RunSpec], low: float, high: float, seed: int
) -> list[RunSpec]:
    """Runs that could be trained next: random policies for every base, and the best runs again with fresh seeds.

    Parameters
    ----------
    bases : one run for each configuration (model, optimizer, budget) that may be trained
    best : complete runs, the best first: `AGAIN` of their policies may be trained again
    taken : runs that are in the pool, whatever came of them
    """
    policies = random_policies(low, high, seed)
    specs = [base.model_copy(update={"policy": str(policy)}) for base in bases for policy in policies]
    fresh = 1 + max((spec.seed for spec in taken), default=0)
    again = {spec.model_dump_json(): spec for spec in (spec.model_copy(update={"seed": fresh}) for spec in best)}
    specs += [*again.values()][:AGAIN]
    known = {spec.model_dump_json() for spec in taken}
    unique = {spec.model_dump_json(): spec for spec in specs}
    return [spec for text, spec in unique.items() if text not in known]


Candidates = Callable[[Sequence[RunSpec], Sequence[RunSpec], Sequence[RunSpec], float, float, int], list[RunSpec]]


def first_policies(k0: tuple[float, float]) -> list[Policy]:
    """`FIRST` within a range of peak LRs."""
    high, middle, low = k0[1] / 2, float(np.sqrt(k0[0] * k0[1])), k0[0] / 10
    shown = {"high": f"{high:.3g}", "middle": f"{middle:.3g}", "low": f"{low:.3g}"}
    return [Policy.parse(text.format(**shown)) for text in FIRST]


def grid(k0: tuple[float, float]) -> list[Policy]:
    return [policy for high in np.geomspace(k0[0], k0[1], 4)[::-1] for policy in first_policies((k0[0], float(high)))]


def baselines(spec: RunSpec) -> dict[str, str]:
    """Name -> policy that people train with when nobody chooses.

    Caffe's solver for the model, PyTorch's default LR held constant, and its ImageNet example.
    """
    import torch

    kinds = {name.lower(): kind for name, kind in vars(torch.optim).items() if inspect.isclass(kind)}
    lr = inspect.signature(kinds[spec.optimizer.name.lower()]).parameters["lr"].default
    found = {
        "Caffe": CAFFE.get(spec.model.name, CAFFENET),
        "PyTorch default LR": f"FIX(k0={float(lr):g})",
        "PyTorch ImageNet example": IMAGENET,
    }
    return {name: str(Policy.parse(policy)) for name, policy in found.items()}
