"""Learning-rate policies: pure, stateless functions of the optimizer step."""

from lrensemble.policies.functions import FUNCTIONS, Function, Parameter
from lrensemble.policies.policy import Policy
from lrensemble.policies.text import parse_policies
from lrensemble.policies.units import Length

__all__ = ["FUNCTIONS", "Function", "Length", "Parameter", "Policy", "parse_policies"]
