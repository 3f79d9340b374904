"""The range test: where a curve is chosen, and that it separates LRs that train from those that do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lrensemble import Config, train_pool
from lrensemble.training import make_plan
from lrensemble.training.range_test import HIGH, LOW, chosen, range_test


def test_the_range_of_a_curve():
    lr = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    assert (chosen(lr, [2.0, 1.95, 1.5, 1.0, 3.0]).low, chosen(lr, [2.0, 1.95, 1.5, 1.0, 3.0]).high) == (1e-2, 1e-1)
    flat = chosen(lr, [2.0, 2.0, 2.0, 2.0, 2.0])  # nothing was learnt: still a range
    assert 0 < flat.low < flat.high
    nothing = chosen([], [])
    assert 0 < nothing.low < nothing.high


@pytest.fixture(scope="module")
def plan(config: Config, tmp_path_factory: pytest.TempPathFactory):
    return make_plan(config, tmp_path_factory.mktemp("range") / "pool")


def test_it_finds_lrs_that_train(plan, tmp_path):
    before = torch.random.get_rng_state()
    found = range_test(plan.specs[0], plan.task, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not plan.pool.exists()
    assert LOW < found.low < found.high < HIGH
    assert np.all(np.diff(found.lr) > 0) and len(found.lr) == len(found.loss)
    assert range_test(plan.specs[0], plan.task, device="cpu") == found
    # Independent of it: real runs inside the range are better than far below and far above.
    middle = (found.low * found.high) ** 0.5
    lrs = [found.low / 300, middle, found.high * 300]
    config = plan.config.model_copy(
        update={"policies": tuple(f"FIX(k0={lr:.6g})" for lr in lrs), "control": False, "seeds": (0,)}
    )
    pool = train_pool(config, tmp_path / "pool", workers=1, threads=1, devices="cpu")
    accuracy = {m.record.spec.policy: (m.record.metrics.get("val") or {}).get("accuracy") or 0 for m in pool.members}
    low, good, high = (accuracy[f"FIX(k0={float(f'{lr:.6g}'):g})"] for lr in lrs)
    assert good > 0.8 and good > low + 0.2 and good > high + 0.2
