"""Which runs to train next, for the team of a pool. Reads records and validation predictions, never the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.metrics import correct_rows, nll_of, true_class
from lrensemble.pool import Member, Pool, RunSpec
from lrensemble.recommend.candidates import candidate_specs, peak_range
from lrensemble.recommend.features import PEAK, configuration, difference, spec_features
from lrensemble.recommend.gain import FEWEST, Evidence, Forecast, choose
from lrensemble.recommend.runs import are_complete, expected_seconds, followed, read_runs

AGAIN = 3  # of the best runs may be trained again with a fresh seed


class Proposal(Forecast):
    """A run to train, and what is expected of it."""

    spec: RunSpec
    explanation: str
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
    members = read_runs(pool, "val")
    specs, complete = followed(members), are_complete(members)
    rows = pool.task.rows["train"]
    evidence, features = _evidence(pool, members, specs, complete)
    scores = nll_of(evidence.true).mean(1)
    good = [spec for spec, good in zip(specs, complete, strict=True) if good]
    peaks = 10 ** features[:, PEAK]
    low, high = peak_range(list(peaks[complete]), list(scores), list(peaks[~complete]))
    ranked = [good[i] for i in np.argsort(scores, kind="stable")]
    kinds = _distinct(specs if bases is None else bases)
    models = [(kind.model, kind.training.freeze) for kind in kinds]  # a pool may have members of others
    again = [spec for spec in ranked if (spec.model, spec.training.freeze) in models][:AGAIN]
    candidates = candidate_specs(kinds, again, specs, low, high, seed)
    together = spec_features([*specs, *candidates], rows)
    known, new = together[: len(specs)], together[len(specs) :]
    evidence = replace(evidence, features=known[complete], failed=known[~complete])
    seconds = expected_seconds(members, candidates, rows)
    return [
        Proposal(
            spec=candidates[i],
            explanation=_explain(candidates[i], new[i], good, evidence.features, forecast, float(seconds[i])),
            seconds=float(seconds[i]),
            **vars(forecast),
        )
        for i, forecast in choose(evidence, new, seconds, n, seed)
    ]


def _evidence(
    pool: Pool, members: Sequence[Member], specs: Sequence[RunSpec], is_complete: Array
) -> tuple[Evidence, Array]:
    """What the pool knows, and the features of all runs."""
    labels = pool.labels("val")
    features = spec_features(specs, pool.task.rows["train"])
    complete = [member for member, good in zip(members, is_complete, strict=True) if good]
    mine = {member.id for member in complete}
    others = [member for member in pool.whole(pool.complete, "val") if member.id not in mine]

    def true(members: list[Member]) -> Array:
        found = zip(members, pool.predictions("val", members), strict=True)
        rows = [_confidence(p, labels) if m.record.is_labels else true_class(p, labels) for m, p in found]
        return np.array(rows, dtype=np.float64).reshape(len(members), len(labels))

    right = [correct_rows(p, labels) for p in pool.predictions("val", complete)]
    evidence = Evidence(
        features=features[is_complete],
        true=true(complete),
        right=np.array(right, dtype=bool).reshape(len(complete), len(labels)),
        failed=features[~is_complete],
        others=true(others),
        chance=pool.chance("val"),
    )
    return evidence, features


def _confidence(one_hot: Array, labels: Array) -> Array:
    """Probability of the true class by a member that gives labels: it is as sure as its accuracy (Laplace's rule)."""
    right = correct_rows(one_hot, labels)
    share = (right.sum() + 1) / (len(right) + 2)
    others = (~np.signbit(one_hot)).sum(1) - 1  # choices that the row has
    return np.asarray(np.where(right == 1, share, (1 - share) / others))


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
    diverges = forecast.diverges or 0.0
    risk = f", diverges with {100 * diverges:.0f} %" if diverges >= 0.05 else ""
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
