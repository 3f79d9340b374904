"""What to train with a fixed number of trainings: a ladder of peak LRs, seeds of its best, then others.

Pure functions: what is known so far goes in, the next runs come out, so that a replay asks the same code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrensemble.policies import Policy
from lrensemble.policies.units import format_number
from lrensemble.pool import RunSpec
from lrensemble.recommend.candidates import Candidates, candidate_specs
from lrensemble.recommend.features import configuration
from lrensemble.recommend.propose import Known, Proposal, propose_from

FEWEST = 3  # trainings: less than that has no team to choose
# Peak LRs a decade apart, the middle one first. Optimizers that divide by the size of the gradient step as far as their
# LR says, whatever the loss; the others' LRs are of the size that SGD's have.
DECADES = (0.1, 0.01, 1.0)
NORMALISED_DECADES = (1e-3, 1e-4, 1e-2)
SEEDS = 3  # more of the ladder's best policy: from few runs a surrogate does not see what they are worth
NORMALISED = ("adam", "rmsprop", "lion", "adafactor", "lamb", "adagrad")


def decades(optimizer: str) -> tuple[float, ...]:
    """Peak LRs to begin with, for an optimizer by its name."""
    name = optimizer.rpartition(".")[2].lower()
    return NORMALISED_DECADES if any(kind in name for kind in NORMALISED) else DECADES


def ladder(optimizer: str) -> tuple[str, ...]:
    """The policies to begin with where none are given: cosines to 0 from the decades."""
    return tuple(map(cosine, decades(optimizer)))


def cosine(peak: float) -> str:
    return str(Policy.parse(f"COS(k0={format_number(float(f'{peak:.3g}'))}, l=100%)"))


def first_runs(bases: Sequence[RunSpec]) -> list[RunSpec]:
    """The ladder with the first of the configurations that may be trained."""
    return [_with(bases[0], policy) for policy in ladder(bases[0].optimizer.name)]


def _with(base: RunSpec, policy: str) -> RunSpec:
    return base.model_copy(update={"policy": policy})


def half_decades(known: Known, base: RunSpec) -> list[RunSpec]:
    """The two half decades around the best decade, as far as they are not trained; none where all decades failed."""
    mine = [spec for spec in known.specs if _kind(spec) == _kind(base)]
    nll = {spec.policy: loss for spec, loss in zip(known.good, known.nll, strict=True) if _kind(spec) == _kind(base)}
    there = {peak: nll[cosine(peak)] for peak in decades(base.optimizer.name) if cosine(peak) in nll}
    if not there:
        return []
    best = min(there, key=lambda peak: there[peak])
    around = [cosine(best * factor) for factor in (10**-0.5, 10**0.5)]
    trained = {spec.policy for spec in mine}
    return [_with(base, policy) for policy in around if policy not in trained]


def more_seeds(known: Known, base: RunSpec) -> list[RunSpec]:
    """Fresh seeds of the ladder's best policy (mean NLL), so many that the ladder has `SEEDS` beyond one of each."""
    rungs = {cosine(peak * 10 ** (half / 2)) for peak in decades(base.optimizer.name) for half in (-1, 0, 1)}

    def is_rung(spec: RunSpec) -> bool:
        return spec.policy in rungs and _kind(spec) == _kind(base)

    nll: dict[str, list[float]] = {}
    for spec, loss in zip(known.good, known.nll, strict=True):
        if is_rung(spec):
            nll.setdefault(spec.policy, []).append(float(loss))
    if not nll:
        return []
    best = _with(base, min(nll, key=lambda policy: float(np.mean(nll[policy]))))
    there = [spec.policy for spec in known.specs if is_rung(spec)]
    fresh = 1 + max(spec.seed for spec in known.specs)
    missing = SEEDS - (len(there) - len(set(there)))
    return [best.model_copy(update={"seed": fresh + i}) for i in range(missing)]


def _kind(spec: RunSpec) -> tuple[str, ...]:
    return (*configuration(spec), str(spec.training.epochs))


def next_runs(
    known: Known,
    bases: Sequence[RunSpec],
    n: int,
    seed: int,
    *,
    ladder: bool = True,
    candidates: Candidates = candidate_specs,
) -> list[Proposal]:
    """The `n` runs to train at the same time next, from everything that is known; the first ones are `first_runs`.

    The half decades around the best decade come first, then seeds of the best of all these; after them every other run
    is chosen for the team (`propose_from`), each as if those before it were trained, the others are random: the
    surrogate stays where it knows what it gets, and a team gains from what it does not look for.

    Parameters
    ----------
    bases : runs
        One for each configuration (model, optimizer, budget) that may be trained; the ladder is of the first.
    ladder : bool
        False where the user's policies were the start.
    """
    first = (half_decades(known, bases[0]) or more_seeds(known, bases[0])) if ladder else []
    return propose_from(known, bases, n, seed, first=first, candidates=candidates, share=1, by="mixed")
