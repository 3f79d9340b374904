"""Which runs to train next, for the team of a pool. Reads records and validation predictions, never the test split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lrensemble.errors import UserError
from lrensemble.metrics import correct_rows, nll_of, true_class
from lrensemble.pool import Member, Pool, RunSpec
from lrensemble.pool.record import Strict
from lrensemble.recommend.candidates import candidate_specs, peak_range
from lrensemble.recommend.features import PEAK, difference
from lrensemble.recommend.gain import FEWEST, Evidence, Forecast, choose
from lrensemble.recommend.runs import Runs, configuration, expected_seconds, read_runs, spec_features

Array = NDArray[Any]
AGAIN = 3  # of the best runs may be trained again with a fresh seed


class Proposal(Strict):
    """A run to train, and what is expected of it on validation; numbers as in `Forecast`."""

    spec: RunSpec
    explanation: str
    gain: float | None = None
    accuracy: float | None = None
    accuracy_sd: float | None = None
    nll: float | None = None
    disagreement: float | None = None
    diverges: float | None = Field(default=None, ge=0, le=1)
    seconds: float | None = None


def propose(pool: Pool, n: int = 5, *, seed: int = 0, bases: Sequence[RunSpec] | None = None) -> list[Proposal]:
    """The `n` runs that are expected to make the team better fastest, best first.

    Parameters
    ----------
    bases : runs, optional
        Configurations (model, optimizer, budget) that may be trained; default: those of the runs in the pool.
    seed : int
        Of the candidates and of the surrogate's draws: the same pool and seed give the same proposals.

    Raises
    ------
    UserError
        `n` below 1; a pool without a finished run of our trainer.
    """
    if n < 1:
        raise UserError(f"n = {n} is not possible: propose 1 or more runs")
    runs = read_runs(pool, "val")
    rows = pool.task.rows["train"]
    evidence, features = _evidence(pool, runs)
    scores = nll_of(evidence.true).mean(1)
    good = [spec for spec, complete in zip(runs.specs, runs.complete, strict=True) if complete]
    peaks = 10 ** features[:, PEAK]
    low, high = peak_range(list(peaks[runs.complete]), list(scores), list(peaks[~runs.complete]))
    bases = _distinct(runs.specs if bases is None else bases)
    possible = {base.model.model_dump_json() for base in bases}
    ranked = [good[i] for i in np.argsort(scores, kind="stable") if good[i].model.model_dump_json() in possible]
    candidates = candidate_specs(bases, ranked[:AGAIN], runs.specs, low, high, seed)
    together = spec_features([*runs.specs, *candidates], rows)
    known, new = together[: len(runs.specs)], together[len(runs.specs) :]
    evidence = Evidence(
        known[runs.complete], evidence.true, evidence.right, known[~runs.complete], evidence.others, evidence.chance
    )
    seconds = expected_seconds(runs, candidates, rows)
    return [
        Proposal(
            spec=candidates[i],
            explanation=_explain(candidates[i], new[i], good, evidence.features, forecast, float(seconds[i])),
            seconds=float(seconds[i]),
            **vars(forecast),
        )
        for i, forecast in choose(evidence, new, seconds, n, seed)
    ]


def _evidence(pool: Pool, runs: Runs) -> tuple[Evidence, Array]:
    """What the pool knows, and the features of all runs."""
    labels = pool.labels("val")
    features = spec_features(runs.specs, pool.task.rows["train"])
    complete = [member for member, good in zip(runs.members, runs.complete, strict=True) if good]
    mine = {member.id for member in complete}
    others = [member for member in pool.usable("val") if member.id not in mine]

    def true(members: list[Member]) -> Array:
        rows = [true_class(p, labels) for p in pool.predictions("val", members)]
        return np.array(rows, dtype=np.float64).reshape(len(members), len(labels))

    right = [correct_rows(p, labels) for p in pool.predictions("val", complete)]
    evidence = Evidence(
        features=features[runs.complete],
        true=true(complete),
        right=np.array(right, dtype=bool).reshape(len(complete), len(labels)),
        failed=features[~runs.complete],
        others=true(others),
        chance=1 / len(pool.task.class_names),
    )
    return evidence, features


def _distinct(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """One run for each configuration, with the lowest seed."""
    found: dict[tuple[Any, ...], RunSpec] = {}
    for spec in sorted(specs, key=lambda s: s.seed):
        found.setdefault((*configuration(spec), spec.training.epochs), spec)
    return list(found.values())


def _explain(
    spec: RunSpec, features: Array, good: Sequence[RunSpec], known: Array, forecast: Forecast, seconds: float
) -> str:
    """One line: what the candidate resembles, and what is expected of it."""
    about = f"about {seconds:.2g} s" if seconds < 100 else f"about {seconds:.0f} s"
    risk = f", diverges with {100 * forecast.diverges:.0f} %" if forecast.diverges >= 0.05 else ""
    if forecast.gain is None or forecast.accuracy is None or forecast.accuracy_sd is None:
        why = f"{FEWEST} finished runs, one of them complete, are needed to predict anything"
        return f"unlike what was tried: {why}; {about}{risk}"
    nearest = int(np.argmin(((known - features) ** 2).sum(1)))
    other = good[nearest]
    if other.policy == spec.policy:
        like = f"{other.policy} again with a fresh seed"
    else:
        like = f"like {other.policy}" + (f" but {words}" if (words := difference(features, known[nearest])) else "")
    if (*configuration(other), other.training.epochs) != (*configuration(spec), spec.training.epochs):
        like += f", with {spec.model}, {spec.optimizer}, {spec.training.epochs} epochs of {spec.training.batch_size}"
    return (
        f"{like}: predicted validation accuracy {100 * forecast.accuracy:.1f} ± {100 * forecast.accuracy_sd:.1f} %, "
        f"errors differ from the team's on {100 * (forecast.disagreement or 0):.1f} % of rows, "
        f"expected gain {forecast.gain:.2g} nats in {about}{risk}"
    )
