"""Selectors: from predictions on validation data to the weights of a team."""

from __future__ import annotations

import inspect
from typing import Any

from lrensemble.errors import UserError, did_you_mean
from lrensemble.selection.base import OBJECTIVES, Selector, score_teams, soft_vote
from lrensemble.selection.brute_force import BruteForce
from lrensemble.selection.diverse import DiverseGreedy
from lrensemble.selection.enumerate import Enumerating
from lrensemble.selection.focal import Focal
from lrensemble.selection.greedy import Greedy
from lrensemble.selection.hierarchical import Hierarchical
from lrensemble.selection.simple import All, BestSingle, Random, TopK

SELECTORS: dict[str, type[Selector]] = {
    "best-single": BestSingle,
    "all": All,
    "top-k": TopK,
    "random": Random,
    "greedy": Greedy,
    "brute-force": BruteForce,
    "focal": Focal,
    "hierarchical": Hierarchical,
    "diverse": DiverseGreedy,
}
# What runs when nobody says which: the usual ones, and the exact optimum where it is not too much.
DEFAULT_SELECTORS = ("best-single", "all", "top-k", "random", "greedy", "brute-force")


def make_selector(name: str, **parameters: Any) -> Selector:
    """Build a selector by name; parameters that this selector does not have are left out.

    So that one ``objective`` and one ``size`` can be given to several selectors at once.
    """
    if name not in SELECTORS:
        raise UserError(f"unknown selector {name!r}: {did_you_mean(name, SELECTORS)}")
    known = inspect.signature(SELECTORS[name]).parameters
    return SELECTORS[name](**{key: value for key, value in parameters.items() if key in known})


__all__ = [
    "DEFAULT_SELECTORS",
    "OBJECTIVES",
    "SELECTORS",
    "All",
    "BestSingle",
    "BruteForce",
    "DiverseGreedy",
    "Enumerating",
    "Focal",
    "Greedy",
    "Hierarchical",
    "Random",
    "Selector",
    "TopK",
    "make_selector",
    "score_teams",
    "soft_vote",
]
