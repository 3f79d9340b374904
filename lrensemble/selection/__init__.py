"""Selectors: from predictions on validation data to the weights of a team."""

from __future__ import annotations

import inspect
from typing import Any

from lrensemble.errors import UserError
from lrensemble.plugins import Registry
from lrensemble.selection.ballots import MEMORY, OBJECTIVES, Ballots, team_vote
from lrensemble.selection.base import Incompatible, Selector, Step, smallest_within_one_se
from lrensemble.selection.brute_force import BruteForce
from lrensemble.selection.cma_es import CMAES
from lrensemble.selection.convex import Convex
from lrensemble.selection.diverse import DiverseGreedy
from lrensemble.selection.enumerate import Enumerating
from lrensemble.selection.focal import Focal
from lrensemble.selection.greedy import Greedy
from lrensemble.selection.hierarchical import Hierarchical
from lrensemble.selection.pareto import Pareto
from lrensemble.selection.simple import All, BestSingle, Random, TopK
from lrensemble.selection.stability import Stability, stability
from lrensemble.selection.votes import VOTES, Vote, fit_temperature
from lrensemble.votes import ALIASES, canonical_vote


def _check(name: str, kind: Any) -> None:
    if not (inspect.isclass(kind) and issubclass(kind, Selector)):
        raise UserError(f"selector {name}: {kind!r:.60} is no subclass of lrensemble.Selector")


_OURS: dict[str, type[Selector]] = {
    "best-single": BestSingle,
    "all": All,
    "top-k": TopK,
    "random": Random,
    "greedy": Greedy,
    "brute-force": BruteForce,
    "focal": Focal,
    "hierarchical": Hierarchical,
    "diverse": DiverseGreedy,
    "convex": Convex,
    "cma-es": CMAES,
    "pareto": Pareto,
}
SELECTORS: Registry[type[Selector]] = Registry("selectors", "selector", _OURS, _check)
register_selector = SELECTORS.register
# What runs when nobody says which: the usual ones, and the exact optimum where it is not too much.
DEFAULT_SELECTORS = ("best-single", "all", "top-k", "random", "greedy", "brute-force")
# A team would be used with another vote than it was selected for.
_NEVER_LEFT_OUT = {"vote": "soft", "temperature": False}


def make_selector(name: str, /, **parameters: Any) -> Selector:
    """Build a selector by name; parameters that this selector does not have are left out.

    So that one ``objective`` and one ``size`` can be given to several selectors at once. A vote and a temperature are
    not left out: `UserError` where the selector knows the soft vote only.
    """
    wanted = SELECTORS.find(name)
    known = inspect.signature(wanted).parameters
    if name == "convex" and (objective := parameters.get("objective", "nll")) != "nll":
        raise UserError(f"objective {objective} is not possible with convex, whose weights are those of least NLL")
    if "vote" in parameters:
        parameters["vote"] = canonical_vote(parameters["vote"])
    for key, default in _NEVER_LEFT_OUT.items():
        if key not in known and parameters.get(key, default) != default:
            able = [other for other, kind in SELECTORS.items() if key in inspect.signature(kind).parameters]
            raise Incompatible(f"{key} {parameters[key]} is not possible with {name}: use {', '.join(able)}")
    return wanted(**{key: value for key, value in parameters.items() if key in known})


__all__ = [
    "ALIASES",
    "CMAES",
    "DEFAULT_SELECTORS",
    "MEMORY",
    "OBJECTIVES",
    "SELECTORS",
    "VOTES",
    "All",
    "Ballots",
    "BestSingle",
    "BruteForce",
    "Convex",
    "DiverseGreedy",
    "Enumerating",
    "Focal",
    "Greedy",
    "Hierarchical",
    "Incompatible",
    "Pareto",
    "Random",
    "Selector",
    "Stability",
    "Step",
    "TopK",
    "Vote",
    "canonical_vote",
    "fit_temperature",
    "make_selector",
    "register_selector",
    "smallest_within_one_se",
    "stability",
    "team_vote",
]
