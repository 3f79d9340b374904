"""Learning-rate policies: pure, stateless functions of the optimizer step, and an algebra over them."""

from lrensemble.policies import compose, lrbench, modern  # noqa: F401  (they fill the registry)
from lrensemble.policies.aliases import ALIASES, Alias
from lrensemble.policies.examples import EXAMPLES
from lrensemble.policies.lrbench import LRBENCH
from lrensemble.policies.policy import Policy, find_definition
from lrensemble.policies.ranges import Range
from lrensemble.policies.registry import FUNCTIONS, Function, Parameter
from lrensemble.policies.text import Space, parse_policies
from lrensemble.policies.units import Length

__all__ = [
    "ALIASES",
    "EXAMPLES",
    "FUNCTIONS",
    "LRBENCH",
    "Alias",
    "Function",
    "Length",
    "Parameter",
    "Policy",
    "Range",
    "Space",
    "find_definition",
    "parse_policies",
]
