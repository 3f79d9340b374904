"""The picture of replays, and the script that makes the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from lrensemble import UserError
from scripts.replay import __main__ as bench
from scripts.replay.plot import draw_replays


def curve(offset: float) -> dict[str, list[float]]:
    return {"budgets": [3, 5, 8], **{key: [offset, offset + 1, offset + 2] for key in ("mean", "low", "high")}}


def test_draw(tmp_path):
    strategies = {name: {"val_nll": curve(i), "test_accuracy": curve(i)} for i, name in enumerate(("random", "ours"))}
    pools = [
        {"name": "x", "members": 9, "strategies": strategies},
        {"name": "y", "members": 8, "strategies": strategies},
    ]
    draw_replays(pools, tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    draw_replays(pools, tmp_path / "r.html")
    assert "y: 8 members" in (tmp_path / "r.html").read_text()
    with pytest.raises(UserError, match="cannot draw"):
        draw_replays(pools, tmp_path / "r.jpg")


def test_intervals_are_over_starts_that_have_a_team():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 1, (400, 2))
    values[0, 0] = np.nan
    found = bench._intervals(values)
    np.testing.assert_allclose(found["mean"], values[1:].mean(0))
    half = 1.96 / np.sqrt(399)
    assert found["high"][1] - found["low"][1] == pytest.approx(2 * half, rel=0.15)
