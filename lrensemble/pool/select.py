"""Select teams from the validation predictions of a pool. Nothing here opens a file of the test split."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lrensemble.errors import UserError, did_you_mean
from lrensemble.metrics import find_metric, load_metric, summary
from lrensemble.pool.costs import inference_costs
from lrensemble.pool.files import now
from lrensemble.pool.given import given_pool
from lrensemble.pool.member import Member
from lrensemble.pool.pool import Pool, by_accuracy
from lrensemble.pool.team import Point, SelectionStability, Team
from lrensemble.selection import (
    DEFAULT_SELECTORS,
    MEMORY,
    OBJECTIVES,
    SELECTORS,
    Ballots,
    BruteForce,
    Incompatible,
    Selector,
    Stability,
    canonical_vote,
    make_selector,
    stability,
)

MOST_OPTION = 1_000_000
BRUTE_FORCE_WORK = 100_000_000_000  # probabilities to average; half a minute on two cores without numba
SLOWER = 30  # times, where every team is voted on by itself


def select_teams(
    pool: Pool | str | Path,
    selectors: Sequence[str] | str | None = None,
    *,
    size: int | None = None,
    objective: str | None = None,
    vote: str | None = None,
    temperature: bool = False,
    one_se: bool = False,
    time_limit: float | None = None,
    best: int | None = None,
    stability_repeats: int = 0,
    cost: str | None = None,
    memory: int = MEMORY,
    options: dict[str, Any] | None = None,
    watch: Callable[[str], bool] = lambda done: False,
) -> list[Team]:
    """Run selectors on the pool's validation split, write ``teams/<name>.json`` for each and return them.

    A selector that cannot have the vote or the temperature is left out with a warning where others can.

    Parameters
    ----------
    pool : Pool, or its folder
    selectors : sequence of str, or one name, optional
        Names in `SELECTORS`; default `DEFAULT_SELECTORS`, brute force only where it is not too much.
    size : int, optional
        Size of the team, for the selectors that take one (for greedy: at most so many different members).
    objective : str, optional
        What the team shall be best at on validation: ``nll``, ``accuracy``, or a metric by its name (see
        `lrensemble.metrics.named`); ``package.module:function`` is imported and called. Default: the NLL, which
        overfits much less than accuracy; accuracy where a member gives labels, as these have no NLL.
    vote : str, optional
        Name in `VOTES`: the selectors optimise it, and the team is used with it. Default: soft; plurality where a
        member gives labels.
    temperature : bool
        Scale every member's confidence by a temperature fitted on validation.
    one_se : bool
        Where a selector goes through teams of several sizes: the smallest within one standard error of the best.
    time_limit : float, optional
        Seconds for each of the selectors that search; then the best so far is taken, and `Team.stopped` says so.
    best : int, optional
        Choose from the so many members of the best validation accuracy alone.
    stability_repeats : int
        Select so many times more, on halves of the rows: who is chosen again, and how much of the gain is real.
    cost : str, optional
        What members cost, for `pareto`: ``energy`` (of training), or a cost that all records have, such as
        ``cpu_seconds``, ``parameters``, ``acs``. Default: FLOPs, else parameters.
    memory : int
        Bytes for predictions in memory. A pool that is larger stays on disk where the selector can do with pieces.
    options : dict, optional
        Further parameters, given to the selectors that have them: ``{"bags": 10, "budget": 1e9}``.
    watch : callable
        Told what is being tried; where it returns True the search ends with the best so far, and no other begins.

    Raises
    ------
    UserError
        Unknown selector, vote, metric or option, what no selector here has a use for, impossible size, no usable
        member, damaged predictions; NLL or temperatures of members that give labels; a metric that raises or gives no
        finite number.
    """
    pool = given_pool(pool)
    selectors = [selectors] if isinstance(selectors, str) else selectors
    if selectors is not None and not selectors:
        raise UserError(f"no selector is named: {did_you_mean('', SELECTORS)}")
    vote = vote and canonical_vote(vote)
    metric = load_metric(objective or "nll", "objective")
    besides = {*(selectors or ())} - {"convex"}

    def made(name: str, **parameters: Any) -> Selector:
        """Convex has the NLL for its objective: beside selectors that have the one asked for, it keeps to its own."""
        aim = "nll" if name == "convex" and besides else parameters["objective"]
        return make_selector(name, **{**parameters, "objective": aim})

    if selectors is not None:  # what was asked for is checked before the first file is read
        able = _able(
            selectors, partial(made, vote=vote or "soft", objective=objective or "nll", temperature=temperature)
        )
        _check_used(able, size=size, one_se=one_se, time_limit=time_limit)
        if objective not in (None, "nll") and "convex" in able:
            warnings.warn(f"convex minimises the NLL, and nothing else: not {objective}", stacklevel=2)
    members = best_members(pool.usable("val"), best)
    hard = [member.id for member in members if member.record.is_labels]
    vote, objective = _asked(hard, len(members), vote, objective, temperature, selectors)
    parameters = {
        "objective": objective,
        "size": size,
        "vote": vote,
        "temperature": temperature,
        "one_se": one_se,
        "time_limit": time_limit,
        **(options or {}),
    }
    names = [n for n in DEFAULT_SELECTORS if _votes(n, vote, temperature)] if selectors is None else able
    chosen = [(name, made(name, **parameters)) for name in dict.fromkeys(names)]
    _check_options(options or {}, [selector for _, selector in chosen])
    labels = pool.labels("val")
    predictions = pool.predictions("val", members).within(memory)
    Ballots(predictions, labels).check([f"{member.path}" for member in members])
    teams: list[Team] = []
    ended = False

    def told(done: str) -> bool:
        nonlocal ended
        ended = watch(f"{name}, {len(teams) + 1} of {len(chosen)}: {done}") or ended
        return ended

    for name, selector in chosen:
        if selectors is None and isinstance(selector, BruteForce) and _takes_minutes(selector, predictions.shape):
            continue
        if told("begun") and teams:
            warnings.warn(f"interrupted before {name}: it has chosen no team", stacklevel=2)
            break
        costs, unit = inference_costs(members, cost)
        try:
            selector.fit(predictions, labels, costs=costs, memory=memory, watch=told)
        except Incompatible as error:
            if len(chosen) == 1:
                raise
            warnings.warn(f"{name} is left out: {error}", stacklevel=2)
            continue
        team = _team(pool, members, name, selector, unit, (options or {}) | ({"best": best} if best else {}))
        probabilities = selector.predict_proba(predictions)
        scores = summary(probabilities, labels)
        if set(hard) & set(team.members):
            scores = {"accuracy": scores["accuracy"]}
        if objective not in (*OBJECTIVES, *scores):
            scores[objective] = metric(probabilities, labels)
        team = team.model_copy(update={"validation": scores})
        if stability_repeats:
            found = stability(selector, predictions, labels, repeats=stability_repeats, costs=costs, memory=memory)
            team = team.model_copy(update={"stability": _stability(found, members)})
        teams.append(team)
    for team in teams:  # when all went well
        pool.save_team(team)
    return teams


def _able(names: Sequence[str], make: Callable[[str], object]) -> list[str]:
    """The selectors that can do what is asked of them; the error of the first where none can."""
    errors = {}
    for name in names:
        try:
            make(name)
        except Incompatible as error:
            errors[name] = error
    if len(errors) == len(set(names)):
        raise next(iter(errors.values()))
    for name, reason in errors.items():
        warnings.warn(f"{name} is left out: {reason}", stacklevel=3)
    return [name for name in names if name not in errors]


def _check_used(names: Sequence[str], **asked: Any) -> None:
    """Raise `UserError` for an option that none of the selectors has; say which searches go on without it."""
    known = {name: SELECTORS[name]().get_params() for name in names}
    for key, value in asked.items():
        if value in (None, False) or not names:
            continue
        without = [name for name in names if key not in known[name]]
        words = key.replace("_", " ")
        if len(without) == len(names):
            able = [name for name, kind in SELECTORS.items() if key in kind().get_params()]
            raise UserError(f"{', '.join(names)} cannot have a {words}: {', '.join(able)} can")
        if searching := [name for name in without if name not in ("all", "best-single")]:
            warnings.warn(f"{', '.join(searching)} cannot have a {words}: chosen without it", stacklevel=3)


def best_members(members: Sequence[Member], count: int | None) -> list[Member]:
    """The `count` best of complete members by `by_accuracy`, the best first; None: all as they are."""
    if count is None:
        return list(members)
    if count < 1:
        raise UserError(f"best = {count} is not possible: give 1 or more")
    return sorted(members, key=by_accuracy)[:count]


def _asked(
    hard: Sequence[str],
    total: int,
    vote: str | None,
    objective: str | None,
    temperature: bool,
    selectors: Sequence[str] | None,
) -> tuple[str, str]:
    """Vote and objective, by default those that the members have; `UserError` for what labels do not have."""
    if not hard:
        return vote or "soft", objective or "nll"
    who = f"{len(hard)} of {total} members give labels alone ({hard[0]}{', ...' if len(hard) > 1 else ''})"
    if not find_metric(objective or "accuracy").of_labels or "convex" in (selectors or ()):
        what = "convex, which minimises the NLL," if "convex" in (selectors or ()) else f"the objective {objective}"
        lack = "NLL" if objective in (None, *OBJECTIVES) else "probabilities"
        raise UserError(f"{what} is not possible: {who}, which have no {lack}: select for accuracy")
    if temperature:
        raise UserError(f"a temperature is not possible: {who}, which have no confidence to scale")
    return vote or "plurality", objective or "accuracy"


def _team(pool: Pool, members: list[Member], name: str, selector: Selector, unit: str, options: dict[str, Any]) -> Team:
    """What the fitted selector found, without what it promises."""
    parameters: dict[str, Any] = selector.get_params() | {key: options[key] for key in ("best",) if key in options}
    costs, temperatures = selector.costs_, selector.temperatures_
    return Team(
        name=_team_name(name, parameters, options),
        selector=name,
        parameters=parameters,
        members={members[i].id: float(selector.weights_[i]) for i in selector.members_},
        vote=selector.vote,
        temperatures={} if temperatures is None else {members[i].id: temperatures[i] for i in selector.members_},
        validation={},
        validation_rows=pool.task.rows["val"],
        teams_tried=selector.teams_tried_,
        candidates=sorted(member.id for member in members),
        data_fingerprint=pool.task.data_fingerprint,
        created=now(),
        cost=float(costs[selector.members_].sum()),
        cost_unit=unit,
        trajectory=[
            Point(members=step.size, cost=float(costs[step.weights > 0].sum()), score=step.score)
            for step in selector.trajectory_
        ],
        stopped=selector.stopped_,
    )


def _stability(found: Stability, members: list[Member]) -> SelectionStability:
    return SelectionStability(
        repeats=len(found.inside),
        frequency={m.id: float(share) for m, share in zip(members, found.frequency, strict=True) if share},
        optimism=found.optimism,
        promised_gain=found.promised_gain,
        gain=found.gain,
        overlap=found.overlap,
    )


def _votes(name: str, vote: str, temperature: bool) -> bool:
    """Whether a selector can be asked for this vote."""
    known = SELECTORS[name]().get_params()
    return (vote == "soft" or "vote" in known) and (not temperature or "temperature" in known)


def _check_options(options: dict[str, Any], selectors: list[Selector]) -> None:
    known = {key: value for selector in selectors for key, value in type(selector)().get_params().items()}
    for key, value in options.items():
        if key not in known:
            raise UserError(f"no selector here has an option {key!r}: {did_you_mean(key, known)}")
        if isinstance(value, int | float) and isinstance(known[key], int | float | None):
            whole = isinstance(known[key], int)
            most = MOST_OPTION if whole else sys.float_info.max
            if not 0 <= value <= most or (whole and not isinstance(value, int)):
                what = f"a whole number up to {most:,}" if whole else "a finite number of 0 or more"
                raise UserError(f"{key} = {value!r:.60} is not possible: {what} is needed")


def _takes_minutes(selector: BruteForce, shape: tuple[int, int, int]) -> bool:
    members, rows, classes = shape
    work = selector.teams_to_try(members) * rows * (1 if selector.objective == "nll" else classes)
    if selector.vote != "soft" or selector.objective not in OBJECTIVES:
        work *= SLOWER
    return selector.is_too_much(members) or work > BRUTE_FORCE_WORK


def _team_name(selector: str, parameters: dict[str, Any], options: dict[str, Any]) -> str:
    """``greedy``, ``greedy-accuracy``, ``top-k-5-borda``: the selector and what was asked of it beyond the defaults."""
    size, objective, vote = parameters.get("size"), parameters.get("objective", "nll"), parameters.get("vote", "soft")
    named = objective.rpartition(":")[2]  # of package.module:function: no file has such a name
    parts = [str(size) if size else "", named if objective != "nll" else "", vote if vote != "soft" else ""]
    parts += ["calibrated" if parameters.get("temperature") else "", "1se" if parameters.get("one_se") else ""]
    defaults = SELECTORS[selector]().get_params()
    parts += [f"{key}-{value}" for key, value in options.items() if value != defaults.get(key, value)]
    parts += [f"best-{options['best']}" if "best" in options else ""]
    return "-".join([selector, *(part for part in parts if part)])
