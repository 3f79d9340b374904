"""Learning-rate policies: pure, stateless functions of the optimizer step, and an algebra over them."""

from lrensemble.policies import aliases, compose, lrbench, modern  # noqa: F401  (they fill the registry)
from lrensemble.policies.lrbench import LRBENCH
from lrensemble.policies.policy import Policy
from lrensemble.policies.ranges import Range
from lrensemble.policies.registry import (
    ALIASES,
    FUNCTIONS,
    Definition,
    Parameter,
    find_definition,
    load_entry_points,
    register,
)
from lrensemble.policies.space import Space, parse_policies
from lrensemble.policies.units import Length

__all__ = [
    "ALIASES",
    "FUNCTIONS",
    "LRBENCH",
    "Definition",
    "Length",
    "Parameter",
    "Policy",
    "Range",
    "Space",
    "find_definition",
    "load_entry_points",
    "parse_policies",
    "register",
]
