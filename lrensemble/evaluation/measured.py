"""Metrics beside accuracy and NLL: which ones an evaluation reports, and their paired differences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

from pydantic import BaseModel

from lrensemble.array import Array
from lrensemble.errors import MachineError, UserError
from lrensemble.evaluation.results import LEVEL, Gain
from lrensemble.metrics import PredictionMetric, find_metric, load_metric, resampled
from lrensemble.pool import Pool, Team
from lrensemble.pool.files import read_model
from lrensemble.pool.links import CONFIGURATION
from lrensemble.selection import OBJECTIVES


class _Asked(BaseModel):
    """What is read of a pool's configuration."""

    metrics: tuple[str, ...] = ()


class Measured(NamedTuple):
    """A metric of one vote."""

    value: float
    samples: Array  # on bootstrap samples of the rows, the same for every vote; higher is better


class Measures:
    """The metrics that the caller `named`, that the pool's configuration names, and that teams were selected for.

    The user's own of a pool are imported with `trust` alone. What cannot be computed is `left_out` with the reason; of
    those that were named it is a `UserError`.
    """

    def __init__(self, pool: Pool, teams: Sequence[Team], named: Sequence[str] = (), trust: bool = False) -> None:
        self.named = set(named)
        self.left_out: dict[str, str] = {}
        self._metrics: dict[str, PredictionMetric] = {}
        objectives = [str(team.parameters.get("objective", "nll")) for team in teams]
        for name in dict.fromkeys([*named, *self._of(pool), *objectives]):
            if name not in OBJECTIVES:
                try:
                    self._metrics[name] = (load_metric if trust or name in self.named else find_metric)(name)
                except UserError as error:
                    self._leave_out(name, error)

    def _of(self, pool: Pool) -> tuple[str, ...]:
        """What the configuration says that the pool was trained with last; nothing of imports and of your own loops."""
        path = pool.path / CONFIGURATION
        if not os.path.lexists(path):
            return ()
        try:
            return read_model(_Asked, path, "train again, or delete it").metrics
        except MachineError:
            raise
        except UserError as error:
            self.left_out[CONFIGURATION] = str(error)
            return ()

    def _leave_out(self, name: str, error: UserError) -> None:
        if name in self.named:
            raise error
        self.left_out[name] = str(error)

    @property
    def names(self) -> list[str]:
        """Of those that are not left out."""
        return [name for name in self._metrics if name not in self.left_out]

    def of(self, vote: Array, labels: Array, hard: bool = False) -> dict[str, Measured]:
        """Of a vote (N, C) whose ties are settled; `hard`: members that give labels take part."""
        found = {}
        for name in self.names:
            metric = self._metrics[name]
            if metric.of_labels or not hard:
                try:
                    found[name] = Measured(metric(vote, labels), metric.sign * resampled(metric, vote, labels))
                except UserError as error:
                    self._leave_out(name, error)
        return found

    def values(self, found: Mapping[str, Measured]) -> dict[str, float | None]:
        """By name; None where labels have none."""
        return {name: found[name].value if name in found else None for name in self.names}

    def gains(self, first: Mapping[str, Measured], second: Mapping[str, Measured]) -> dict[str, Gain]:
        """By how much the first vote is better: a normal interval with the standard error of the paired bootstrap."""
        gains = {}
        for name in self.names:
            if name in first and name in second:
                (a, samples), (b, others) = first[name], second[name]
                value = self._metrics[name].sign * (a - b)
                margin = NormalDist().inv_cdf((1 + LEVEL) / 2) * float((samples - others).std(ddof=1))
                gains[name] = Gain(value, value - margin, value + margin)
        return gains
