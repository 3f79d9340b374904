"""Learning-rate policies: pure, stateless functions of the optimizer step, and an algebra over them."""

from lrensemble.policies import (  # noqa: F401  (they fill the registry)
    aliases,
    autolrs,
    compose,
    lrbench,
    modern,
    plateau,
    sweep,
    tuner,
)
from lrensemble.policies.control import (
    Controlled,
    Controller,
    controller_of,
    parse_schedule,
    parse_schedules,
    trace_policy,
)
from lrensemble.policies.lrbench import LRBENCH
from lrensemble.policies.policy import Policy
from lrensemble.policies.registry import (
    ALIASES,
    CONTROLS,
    DEFINITIONS,
    FUNCTIONS,
    Definition,
    Parameter,
    find_definition,
    register,
)
from lrensemble.policies.space import Space, parse_policies
from lrensemble.policies.units import Length, Range

__all__ = [
    "ALIASES",
    "CONTROLS",
    "DEFINITIONS",
    "FUNCTIONS",
    "LRBENCH",
    "Controlled",
    "Controller",
    "Definition",
    "Length",
    "Parameter",
    "Policy",
    "Range",
    "Space",
    "controller_of",
    "find_definition",
    "parse_policies",
    "parse_schedule",
    "parse_schedules",
    "register",
    "trace_policy",
]
