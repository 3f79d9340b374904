"""Votes in torch against `team_vote` in NumPy, with ties, zeros and one class too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

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
