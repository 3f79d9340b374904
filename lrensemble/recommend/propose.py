"""Which runs to train next, for the team of a pool. Reads records and validation predictions, never the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.metrics import correct_rows, nll_of, true_class
from lrensemble.pool import Member, Pool, RunSpec
from lrensemble.recommend.candidates import Candidates, candidate_specs, peak_range
from lrensemble.recommend.features import PEAK, configuration, difference, spec_features
from lrensemble.recommend.gain import FEWEST, By, Evidence, Forecast, choose
from lrensemble.recommend.runs import are_complete, expected_seconds, followed, read_runs, took


class Proposal(Forecast):
    """A run to train, and what is expected of it."""

    spec: RunSpec
    explanation: str
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Known:
    """What is known when the next runs are chosen: finished runs and their validation results, and nothing else.

    Attributes
    ----------
    specs : M finished runs, with the policies that they followed
    complete : (M,) bool; the others diverged or were stopped
    seconds : (M,) that training took, NaN for the others and where unknown
    true : (K, N) probability of the true class by the complete ones
    right : (K, N) whether their most probable class is the true one
    others : (L, N) probability of the true class by members whose policy is not known: they are in the team, too
    chance : probability of the true class in a uniform guess
    train_rows : rows of the training split
    """

    specs: Sequence[RunSpec]
    complete: Array
    seconds: Array
    true: Array
    right: Array
    others: Array
    chance: float
    train_rows: int

    @property
    def good(self) -> list[RunSpec]:
        """The complete runs."""
        return [spec for spec, good in zip(self.specs, self.complete, strict=True) if good]

    @property
    def nll(self) -> Array:
        """(K,) of the complete runs, on validation."""
        return np.asarray(nll_of(self.true).mean(1))


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
    known = read_known(pool)
    return propose_from(known, known.specs if bases is None else bases, n, seed)


def propose_from(
    known: Known,
    bases: Sequence[RunSpec],
    n: int,
    seed: int,
    *,
    first: Sequence[RunSpec] = (),
    candidates: Candidates = candidate_specs,
    share: float = 0.5,
    by: By = "gain",
) -> list[Proposal]:
    """As `propose`, of what is known: a pure function.

    Parameters
    ----------
    first : runs that are proposed before all others; what comes after them is chosen as if they were trained
    candidates : function
        What the others are chosen from, as `candidate_specs`.
    share : float
        Of the complete runs: the peak LRs of new policies are around those of the best.
    by : {"gain", "nll", "mixed"}
        As of `choose`.
    """
    features = spec_features(known.specs, known.train_rows)
    peaks = 10 ** features[:, PEAK]
    low, high = peak_range(list(peaks[known.complete]), list(known.nll), list(peaks[~known.complete]), share)
    good = known.good
    kinds = _distinct(bases)
    models = [(kind.model, kind.training.freeze) for kind in kinds]  # a pool may have members of others
    ranked = [good[i] for i in np.argsort(known.nll, kind="stable")]
    again = [spec for spec in ranked if (spec.model, spec.training.freeze) in models]
    before = list(first[:n])
    chosen = [*before, *(c for c in candidates(kinds, again, known.specs, low, high, seed) if c not in before)]
    together = spec_features([*known.specs, *chosen], known.train_rows)
    old, new = together[: len(known.specs)], together[len(known.specs) :]
    evidence = Evidence(
        features=old[known.complete],
        true=known.true,
        right=known.right,
        failed=old[~known.complete],
        others=known.others,
        chance=known.chance,
    )
    seconds = expected_seconds(known.specs, known.seconds, chosen, known.train_rows)
    return [
        Proposal(
            spec=chosen[i],
            explanation=_explain(chosen[i], new[i], good, evidence.features, forecast, float(seconds[i])),
            seconds=float(seconds[i]),
            **vars(forecast),
        )
        for i, forecast in choose(evidence, new, seconds, n, seed, by=by, first=len(before))
    ]


def read_known(pool: Pool) -> Known:
    """What the finished runs of a pool say; `UserError` where there is none."""
    members = read_runs(pool, "val")
    labels, is_complete = pool.labels("val"), are_complete(members)
    complete = [member for member, good in zip(members, is_complete, strict=True) if good]
    mine = {member.id for member in complete}
    others = [member for member in pool.whole(pool.complete, "val") if member.id not in mine]

    def true(members: list[Member]) -> Array:
        found = zip(members, pool.predictions("val", members), strict=True)
        rows = [_confidence(p, labels) if m.record.is_labels else true_class(p, labels) for m, p in found]
        return np.array(rows, dtype=np.float64).reshape(len(members), len(labels))

    right = [correct_rows(p, labels) for p in pool.predictions("val", complete)]
    return Known(
        specs=followed(members),
        complete=is_complete,
        seconds=took(members),
        true=true(complete),
        right=np.array(right, dtype=bool).reshape(len(complete), len(labels)),
        others=true(others),
        chance=pool.chance("val"),
        train_rows=pool.task.rows["train"],
    )


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
