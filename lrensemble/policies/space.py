"""All policies of one text: a grid, or a search space of ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lrensemble.policies.policy import Policy
from lrensemble.policies.text import Call, at, axes_of, grid, read, singles
from lrensemble.policies.units import Range


@dataclass(frozen=True)
class Space:
    """All policies of a text: one, a grid of several, or infinitely many.

    Attributes
    ----------
    axes : dict
        Dotted path of every parameter that varies (``k0``, ``then.l``) -> a tuple of values, or a `Range`.
    """

    call: Call
    axes: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> Self:
        call = read(text)
        return cls(call, axes_of(call))

    def policy(self, values: Mapping[str, Any]) -> Policy:
        """The policy at a point: a value for every axis."""
        return Policy.of(at(self.call, values))

    def grid(self) -> list[Policy]:
        """Every policy, in the order in which the lists are written, last list fastest."""
        return [Policy.of(call) for call in grid(self.call)]

    def sample(self, n: int, seed: int = 0) -> list[Policy]:
        """`n` random policies: values from ranges and from lists."""
        rng = np.random.default_rng(seed)

        def draw(axis: Any) -> Any:
            return axis.sample(rng) if isinstance(axis, Range) else axis[rng.integers(len(axis))]

        return [self.policy({path: draw(axis) for path, axis in self.axes.items()}) for _ in range(n)]


def parse_policies(text: str) -> list[Policy]:
    """Return every policy of a (grid) text, in the order in which the lists are written, last list fastest."""
    return [Policy.of(call) for call in singles(text)]
