"""Votes in torch against `team_vote` in NumPy, with ties, zeros and one class too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torch import nn

from lrensemble.export.formats import read_module, write_module
from lrensemble.export.module import TeamModule
from lrensemble.selection import VOTES, team_vote


class Fixed(nn.Module):
    """Logits whatever the images."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.logits = torch.from_numpy(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


@pytest.mark.parametrize("vote", sorted(VOTES))
@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), members=st.integers(1, 5), classes=st.integers(1, 6), calibrated=st.booleans())
def test_every_vote_is_that_of_team_vote(vote, seed, members, classes, calibrated):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=rng.choice([1.0, 10.0, 60.0]), size=(members, 20, classes)).round(rng.integers(0, 3))
    logits = logits.astype(np.float32)  # rounded: there are ties, and probabilities of 0
    weights = rng.choice([1.0, 2.0, 3.0], members)
    temperatures = rng.uniform(0.5, 3, members) if calibrated else np.ones(members)
    models, shape = [Fixed(x) for x in logits], (1, 1, 1)
    module = TeamModule(models, weights, vote, temperatures, mean=[0.0], std=[1.0], shape=shape, classes=classes)
    expected = team_vote(
        torch.from_numpy(logits).softmax(-1).numpy(), weights, vote, temperatures if calibrated else None
    )
    found = module(torch.zeros(20, 1, 1, 1)).numpy()
    assert found.dtype == np.float32
    # Dividing by a temperature, NumPy and torch round differently: only without are ties certain to be the same ties.
    rows = np.abs(found - expected).max(1)
    if calibrated and vote in ("plurality", "majority", "borda"):
        assert (rows < 1e-5).mean() > 0.5
    else:
        assert rows.max() < 1e-5


def test_normalisation_is_that_of_the_channels():
    class Echo(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = x
            return x.flatten(1)

    echo = Echo()
    module = TeamModule([echo], [1.0], "soft", [1.0], mean=[1.0, 2.0], std=[2.0, 4.0], shape=(2, 1, 1), classes=2)
    module(torch.tensor([5, 10], dtype=torch.uint8).reshape(1, 2, 1, 1))
    assert echo.seen.flatten().tolist() == [2.0, 2.0]
    assert not module.training


class Scored(nn.Module):
    """A member whose logits are in the rows themselves, times its factor where there are choices."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.where(rows == -torch.inf, rows, rows * self.factor)


def asked(seed: int, rows: int = 50, most: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C), minus infinity where a row has no such choice, and which it has."""
    rng = np.random.default_rng(seed)
    exists = np.arange(most) < rng.integers(2, most + 1, rows)[:, None]
    return np.where(exists, 6 * rng.normal(size=exists.shape), -np.inf).astype(np.float32), exists


@pytest.mark.parametrize(
    ("vote", "temperature", "format"),
    [(vote, temperature, "memory") for vote in sorted(VOTES) for temperature in (0.05, 1.0, 20.0)]
    + [("majority", 20.0, "torch"), ("logit", 20.0, "onnx"), ("borda", 20.0, "onnx")],
)
def test_choices_that_a_row_does_not_have_get_exactly_nothing(tmp_path, vote, temperature, format):
    """And the others what they get alone, in a row without them."""
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    logits, exists = asked(0)
    weights, temperatures = [1.0, 1.0, 2.0], [temperature, 1.0, temperature]
    models = [Scored(factor) for factor in (1.0, -0.5, 0.2)]
    options = {"mean": [0.0] * 5, "std": [1.0] * 5, "shape": (5,), "classes": 5, "choices": True}
    module = TeamModule(models, weights, vote, temperatures, **options)
    if format != "memory":
        write_module(module, format, tmp_path / "team")
        module = read_module(format, tmp_path / "team", None)
    with torch.inference_mode():
        found = module(torch.from_numpy(logits)).numpy()
        members = [model(torch.from_numpy(logits)).numpy() for model in models]
    assert (found[~exists] == 0).all()
    assert np.abs(found.sum(1) - 1).max() < 1e-5
    for row, has in enumerate(exists):
        alone = np.stack([softmax(scores[row : row + 1, has], axis=1) for scores in members])
        expected = team_vote(alone, np.array(weights), vote, np.array(temperatures))[0]
        np.testing.assert_allclose(found[row, has], expected, atol=2e-5)
