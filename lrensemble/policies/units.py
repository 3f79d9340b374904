"""Lengths of training with a unit: optimizer steps, epochs, or a share of the budget; and random ranges of them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrensemble.errors import UserError

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGES = ("log", "uniform")
_LENGTH = re.compile(rf"({NUMBER})(e|%)?", re.ASCII)


def format_number(value: float) -> str:
    """Shortest text that parses back to the same float (``10``, ``0.05``, ``1e-07``)."""
    text = repr(float(value))
    return text.removesuffix(".0")


@dataclass(frozen=True, order=False)
class Length:
    """A stretch of training: ``500`` steps, ``10e`` epochs or ``50%`` of the budget.

    The number is kept as written (``50`` for ``50%``), so that the text form is lossless.
    """

    value: float
    unit: str = ""  # "" = optimizer steps, "e" = epochs, "%" = percent of the budget

    def __post_init__(self) -> None:
        if self.unit not in ("", "e", "%"):
            raise UserError(f"unknown unit {self.unit!r}: use '' (steps), 'e' (epochs) or '%' (share of the budget)")
        if not math.isfinite(self.value):
            raise UserError(f"a length must be finite, not {self.value}")

    def __str__(self) -> str:
        return format_number(self.value) + self.unit

    @classmethod
    def parse(cls, text: str) -> Length:
        """Parse ``500``, ``10e`` or ``50%``; raise `UserError` for anything else."""
        match = _LENGTH.fullmatch(text.strip())
        if match is None:
            raise UserError(f"{text!r} is not a length: write 500 (steps), 10e (epochs) or 50% (share of the budget)")
        return cls(float(match[1]), match[2] or "")

    def in_steps(self, steps_per_epoch: int, total_steps: float) -> Length:
        """Return the same length in optimizer steps (not rounded)."""
        if self.unit == "":
            return self
        # In this order 25 % of 880 is 220; 25 * (880 / 100) is not.
        return Length(self.value * steps_per_epoch if self.unit == "e" else self.value * total_steps / 100)


def may_ascend(lengths: Sequence[Length]) -> bool:
    """False when lengths of one unit do not ascend; those of mixed units can be compared when they are bound."""
    one_unit = len({length.unit for length in lengths}) == 1
    return not (one_unit and any(b.value <= a.value for a, b in itertools.pairwise(lengths)))


def steps_per_epoch(train_rows: int, batch_size: int) -> int:
    """Whole batches only: the order is new in every epoch, so the rows left out are others each time."""
    return max(1, train_rows // batch_size)


@dataclass(frozen=True)
class Range:
    """Random values between two ends, evenly spread (``uniform``) or evenly in their logarithm (``log``)."""

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
