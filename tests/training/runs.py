"""What the tests of the engine share: specs, data on the CPU, one run, and how to compare two outcomes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from lrensemble import load_config, load_task
from lrensemble.pool import RunSpec
from lrensemble.tasks.rows import DeviceData
from lrensemble.training.engine import Engine
from lrensemble.training.loop import Outcome, Run, fit
from tests.conftest import tiny_config

CPU = torch.device("cpu")


def specs_of(policies: list[str], *overrides: str, **changes: Any) -> list[RunSpec]:
    """One run a policy on digits: an MLP without dropout unless the overrides say otherwise."""
    changes = {"model": {"name": "mlp", "hidden": [16]}, **changes}
    return load_config(tiny_config(policies=policies, **changes), overrides).specs()


@functools.cache
def digits(channels_last: bool = False, **options: Any) -> DeviceData:
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return DeviceData.of(load_task("digits", val_fraction=0.25), CPU, memory_format=memory_format, **options)


def train(spec: RunSpec, member_id: str = "id", engine: Engine | None = None, **options: Any) -> Outcome:
    return fit(Run(spec, member_id, options.pop("data", digits()), engine, **options))


def assert_equal(a: Outcome, b: Outcome) -> None:
    """The same bits, history included (but for the time it took)."""
    assert (a.status, a.reason) == (b.status, b.reason)
    assert a.weights.keys() == b.weights.keys()
    for name in a.weights:
        assert torch.equal(a.weights[name], b.weights[name]), name
    for split in a.probabilities:
        np.testing.assert_array_equal(a.probabilities[split], b.probabilities[split])
    assert str(timeless(a.history)) == str(timeless(b.history))  # NaN is NaN


def assert_close(a: Outcome, b: Outcome, tolerance: float) -> None:
    assert a.status == b.status == "complete"
    for name in a.weights:
        torch.testing.assert_close(a.weights[name], b.weights[name], rtol=tolerance, atol=tolerance)
    for split in ("val", "test"):
        np.testing.assert_allclose(a.probabilities[split], b.probabilities[split], rtol=0, atol=tolerance)
    for key in ("epoch", "step", "lr"):
        assert [line[key] for line in a.history] == [line[key] for line in b.history]
    losses = [[line["train_loss"] for line in outcome.history] for outcome in (a, b)]
    assert losses[0] == pytest.approx(losses[1], rel=max(tolerance, 1e-6))


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if "seconds" not in key} for line in history]
