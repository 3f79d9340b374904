"""Loss difference (Wu et al. 2019): the loss on test minus that on train, both of the same final weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lrensemble.array import Array
from lrensemble.metrics import correct_rows, nll_rows
from lrensemble.robustness.networks import Networks


@dataclass(frozen=True)
class LossDifference:
    """Of one member, or of a team. The train rows are as they are: no augmentation, no random crop, no dropout."""

    name: str  # id of the member, or name of the team
    policy: str | None  # of a member
    train_nll: float
    test_nll: float
    loss_difference: float  # test_nll - train_nll, nats
    train_accuracy: float
    test_accuracy: float
    train_rows: int
    test_rows: int


def loss_difference(networks: Networks) -> list[LossDifference]:
    """Of every member that takes part, then of the teams."""
    data = networks.data
    losses: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    votes_on: dict[str, Callable[..., dict[str, Array]]] = {
        "test": networks.clean_votes,
        "train": partial(networks.votes, networks.rows("train")),
    }
    for split, votes in votes_on.items():
        labels = data.labels(split)

        def add(name: str, vote: Array, split: str = split, labels: Array = labels) -> None:
            losses[name][split] = float(nll_rows(vote, labels).mean()), float(correct_rows(vote, labels).mean())

        for name, vote in votes(each=lambda member, vote, add=add: add(member.id, vote)).items():
            add(name, vote)
    policies = {member.id: member.record.spec.label for member in networks.members}
    return [
        LossDifference(
            name=name,
            policy=policies.get(name),
            train_nll=loss["train"][0],
            test_nll=loss["test"][0],
            loss_difference=loss["test"][0] - loss["train"][0],
            train_accuracy=loss["train"][1],
            test_accuracy=loss["test"][1],
            train_rows=data.rows("train"),
            test_rows=data.rows("test"),
        )
        for name, loss in losses.items()
        if name != "(best single)"  # it is one of the members
    ]
