"""LR curves as numbers."""

from __future__ import annotations

import numpy as np
import pytest

from lrensemble import Policy
from lrensemble.recommend.features import NAMES, difference, lr_features, with_configuration


def features(text: str) -> dict[str, float]:
    values = lr_features(Policy.parse(text), steps_per_epoch=100, total_steps=1000)
    return dict(zip(NAMES, values, strict=True))


def test_values_of_known_curves():
    fixed = features("FIX(k0=0.1)")
    assert [fixed[name] for name in NAMES] == pytest.approx([-1, -1, -1, 0, 0, 0, 0, 0, 0])
    line = features("POLY(k0=0.2, p=1, l=100%)")
    assert line["mean LR"] == pytest.approx(-1, abs=0.01)  # the mean of a line from 0.2 to 0 is 0.1
    assert line["peak LR"] == pytest.approx(np.log10(0.2), abs=0.01)
    assert line["final LR"] == pytest.approx(np.log10(0.002), abs=0.1)  # of its last 2 %
    assert line["LR in fifth 1"] == pytest.approx(np.log10(1.8), abs=0.01)
    assert line["rises"] == 0


@pytest.mark.parametrize("cycles", [1, 3, 7])
def test_rises_are_cycles(cycles):
    assert features(f"TRI(k0=0.1, k1=0.001, l={50 / cycles}%)")["rises"] == pytest.approx(np.log2(1 + cycles))


def test_difference_in_words():
    names = [lr_features(Policy.parse(t), steps_per_epoch=1, total_steps=500) for t in ("FIX(0.1)", "COS(0.1, l=100%)")]
    assert difference(names[1], names[0]) == "lower final LR"
    assert difference(names[0], names[1]) == "higher final LR"
    assert difference(names[0], names[0]) == ""


def test_only_what_varies_gets_a_column():
    shapes = np.zeros((3, len(NAMES)))
    assert with_configuration(shapes, [10, 10, 10], [("a",)] * 3).shape == shapes.shape
    x = with_configuration(shapes, [10, 10, 20], [("a",), ("b",), ("a",)])
    assert np.linalg.norm(x[0] - x[1]) == pytest.approx(1)  # another model
    assert np.linalg.norm(x[0] - x[2]) == pytest.approx(1)  # twice the budget
