"""Random ranges of parameters: ``k0=log(1e-4, 1e-1)``, ``l=uniform(5e, 20e)``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.policies.units import Length, format_number

RANGES = ("log", "uniform")


@dataclass(frozen=True)
class Range:
    """Values between two ends, evenly spread (``uniform``) or evenly in their logarithm (``log``)."""

    kind: str
    low: float
    high: float
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"{self}: the first end must be below the second")
        if self.kind == "log" and self.low <= 0:
            raise UserError(f"{self}: a log range must start above 0")

    def __str__(self) -> str:
        return f"{self.kind}({format_number(self.low)}{self.unit}, {format_number(self.high)}{self.unit})"

    def sample(self, rng: np.random.Generator) -> Any:
        """One value: a `Length`, which serves as a number where one is needed."""
        if self.kind == "log":
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        # Four digits say as much, and read better in the texts of members.
        return Length(min(max(float(f"{value:.4g}"), self.low), self.high), self.unit)
