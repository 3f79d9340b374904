"""Select teams from the validation predictions of a pool. Nothing here opens a file of the test split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError, did_you_mean
from lrensemble.metrics import summary
from lrensemble.pool.files import now
from lrensemble.pool.pool import Pool
from lrensemble.pool.team import Team
from lrensemble.selection import DEFAULT_SELECTORS, SELECTORS, BruteForce, make_selector

BRUTE_FORCE_WORK = 100_000_000_000  # probabilities to average; half a minute on two cores without numba


def select_teams(
    pool: Pool,
    selectors: Sequence[str] | None = None,
    *,
    size: int | None = None,
    objective: str = "nll",
) -> list[Team]:
    """Run selectors on the pool's validation split, write ``teams/<name>.json`` for each and return them.

    Parameters
    ----------
    selectors : sequence of str, optional
        Names in `SELECTORS`; default `DEFAULT_SELECTORS`, brute force only where it is not too much.
    size : int, optional
        Size of the team, for the selectors that take one (for greedy: at most so many different members).
    objective : {"nll", "accuracy"}
        What the team shall be best at on validation. NLL overfits much less than accuracy.

    Raises
    ------
    UserError
        Unknown selector, impossible size, no usable member, damaged predictions.
    """
    if selectors is not None and not selectors:
        raise UserError(f"no selector is named: {did_you_mean('', SELECTORS)}")
    # All names are checked before the first file is read.
    chosen = [
        (name, make_selector(name, size=size, objective=objective))
        for name in dict.fromkeys(DEFAULT_SELECTORS if selectors is None else selectors)
    ]
    members = pool.usable()
    labels = pool.labels("val")
    predictions = np.asarray(pool.predictions("val", members))
    teams = []
    for name, selector in chosen:
        if selectors is None and isinstance(selector, BruteForce) and _takes_minutes(selector, predictions):
            continue
        selector.fit(predictions, labels)
        parameters: dict[str, Any] = selector.get_params()
        team = Team(
            name=_team_name(name, parameters),
            selector=name,
            parameters=parameters,
            members={members[i].id: float(selector.weights_[i]) for i in selector.members_},
            validation=summary(selector.predict_proba(predictions), labels),
            validation_rows=len(labels),
            teams_tried=selector.teams_tried_,
            candidates=sorted(member.id for member in members),
            data_fingerprint=pool.task.data_fingerprint,
            created=now(),
        )
        teams.append(team)
    for team in teams:  # when all went well
        pool.save_team(team)
    return teams


def _takes_minutes(selector: BruteForce, predictions: NDArray[Any]) -> bool:
    members, rows, classes = predictions.shape
    work = selector.teams_to_try(members) * rows * (classes if selector.objective == "accuracy" else 1)
    return selector.is_too_much(members) or work > BRUTE_FORCE_WORK


def _team_name(selector: str, parameters: dict[str, Any]) -> str:
    """``greedy``, ``greedy-accuracy``, ``top-k-5``: the selector and what was asked of it beyond the defaults."""
    size, objective = parameters.get("size"), parameters.get("objective", "nll")
    return "-".join([selector, *([str(size)] if size else []), *([objective] if objective != "nll" else [])])
