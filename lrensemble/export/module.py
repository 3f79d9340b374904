"""A whole team as one module: raw rows in, probabilities out. What is exported is the graph of this.

The votes are those of `selection.votes`, written in torch; ballots in float32, their mean and its ties in float64, as
there. The probabilities are float32, and their arg max is the float64 vote's. Here -1 marks a choice that a row does
not have: no runtime of ONNX tells -0.0 from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lrensemble.metrics import TIE, TINY
from lrensemble.selection import canonical_vote
from lrensemble.selection.votes import NEVER, counts_of


class TeamModule(nn.Module):
    """Rows (B, *shape) in the data's own unit, images for example -> probabilities (B, classes), float32.

    Parameters
    ----------
    models : sequence of Module
        Normalised rows to logits, one per member.
    weights, temperatures : sequence of float
        One per member; the weights need not sum to 1. A temperature of 1 leaves a member's confidence as it is.
    vote : str
        Name in `lrensemble.selection.VOTES`.
    mean, std : sequence of float
        Of every channel or feature, the first axis of a row, in the unit of the rows.
    shape : sequence of int
        Of one row.
    choices : bool
        Rows have choices of their own: a logit of `NEVER` or less (minus infinity) is one that a row does not have.
    """

    mean: Tensor
    std: Tensor
    classes: Tensor

    def __init__(
        self,
        models: Sequence[nn.Module],
        weights: Sequence[float],
        vote: str,
        temperatures: Sequence[float],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        shape: Sequence[int],
        classes: int,
        choices: bool = False,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(models)
        self.counts = counts_of(weights).tolist()
        self.temperatures = [float(t) for t in temperatures]
        self.vote = canonical_vote(vote)
        self.shape, self.choices = tuple(shape), choices
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, *[1] * (len(self.shape) - 1)))
        self.register_buffer("classes", torch.arange(classes))
        self.eval()

    def forward(self, rows: Tensor) -> Tensor:
        x = (rows.float() - self.mean) / self.std
        ballot, tally = self._rule()
        total: Tensor | float = 0.0
        for model, count, temperature in zip(self.members, self.counts, self.temperatures, strict=True):
            logits = model(x).float()
            probabilities = logits.softmax(1)
            if self.choices:
                probabilities = torch.where(logits <= NEVER, -1.0, probabilities)
            total = total + count * ballot(scaled(probabilities, temperature)).double()
        assert isinstance(total, Tensor)
        return self._rounded(tally(total / sum(self.counts)))

    def _rounded(self, vote: Tensor) -> Tensor:
        """In float32: classes before the winner that are rounded to its share get the next lower number."""
        top = vote.amax(1, keepdim=True)
        winner = torch.where(vote >= top - TIE, top, vote).argmax(1, keepdim=True)
        shares = vote.float()
        best = shares.amax(1, keepdim=True)
        shares = torch.where((shares == best) & (self.classes < winner), best * (1 - 2.0**-24), shares)
        return torch.where(winner == self.classes, best, shares)

    def _rule(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """The ballot of a member (B, C) -> (B, B'), and the tally of the mean ballots -> (B, C)."""
        soft = torch.relu if self.choices else _same
        return {
            "soft": (soft, _same),
            "logit": (_logarithm, lambda x: x.softmax(1)),
            "plurality": (self._first_choice, _same),
            "majority": (lambda p: torch.cat([self._first_choice(p), soft(p)], 1), _majority),
            "borda": (_points, _share_of_points),
        }[self.vote]

    def _first_choice(self, p: Tensor) -> Tensor:
        return (p.argmax(1, keepdim=True) == self.classes).to(p.dtype)


def scaled(p: Tensor, temperature: float) -> Tensor:
    """p^(1/T), normalised, by way of float64 as `selection.votes.scaled` does it."""
    if temperature == 1:
        return p
    flat = (_logarithm(p).double() / temperature).log_softmax(1).exp().float()
    return torch.where(p < 0, p, flat)


def _same(x: Tensor) -> Tensor:
    return x


def _logarithm(p: Tensor) -> Tensor:
    return torch.where(p < 0, NEVER, p.clamp_min(TINY).log())


def _majority(x: Tensor) -> Tensor:
    shares, soft = x.chunk(2, 1)
    return torch.where(shares.amax(1, keepdim=True) > 0.5 + 1e-9, shares, soft)


def _points(p: Tensor) -> Tensor:
    """0 for the least probable class, C - 1 for the first, ties share; by all pairs, which every runtime can do."""
    exists = (p >= 0)[:, None, :]
    less = ((p[:, None, :] < p[:, :, None]) & exists).sum(2)
    equal = (p[:, None, :] == p[:, :, None]).sum(2)
    return torch.where(p < 0, 0.0, less.to(p.dtype) + (equal.to(p.dtype) - 1) / 2)


def _share_of_points(x: Tensor) -> Tensor:
    classes = x.shape[1]
    if classes == 1:
        return torch.ones_like(x)
    given, most = x.sum(1, keepdim=True), classes * (classes - 1) / 2
    return x / torch.where(given < most - 0.5, given, most)  # less of rows with fewer choices
