"""A trace as a short policy: what was made of one is found again, with the error that it has."""

from __future__ import annotations

import numpy as np
import pytest

from lrensemble import Policy
from lrensemble.policies.nearest import NEAR, nearest_policies

STEPS = np.arange(1000)


def lrs(text: str) -> np.ndarray:
    return Policy.parse(text).bind(steps_per_epoch=10, total_steps=1000)(STEPS)


@pytest.mark.parametrize(
    "text",
    [
        "FIX(k0=0.3)",
        "COS(k0=0.1, l=100%)",
        "KNEE(k0=0.02, warmup=0%, hold=50%)",
        "KNEE(k0=0.02, warmup=10%, hold=30%)",
        "POLY(k0=0.1, p=2, l=100%)",
        "POINTS(at=[0%,30%,80%], k=[0.1,0.3,0.01], between=hold)",
    ],
)
def test_it_is_found_again(text):
    first = nearest_policies(lrs(text))[0]
    assert first.error < 1e-3
    np.testing.assert_allclose(lrs(str(first.policy)), lrs(text), atol=1e-3 * lrs(text).max())
    assert len(str(first.policy)) <= len(text)


def test_the_error_is_that_of_the_policy_and_the_shortest_near_one_is_first():
    rng = np.random.default_rng(0)
    trace = lrs("KNEE(k0=0.1, warmup=0%, hold=40%)") * rng.uniform(0.99, 1.01, 1000)
    found = nearest_policies(trace)
    for near in found:
        assert near.error == pytest.approx(np.abs(lrs(str(near.policy)) - trace).mean() / trace.mean())
    assert str(found[0].policy).startswith("KNEE(k0=0.1") and found[0].error < NEAR
    assert [near.error for near in found[1:]] == sorted(near.error for near in found[1:])
    assert len({near.policy for near in found}) == len(found)
    zigzag = nearest_policies(np.where(STEPS // 10 % 2, 0.1, 0.9))
    assert zigzag[0].error == min(near.error for near in zigzag) > NEAR  # nothing is near: the nearest
