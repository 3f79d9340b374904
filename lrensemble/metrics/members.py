"""A team's members beside the team: how much could be won at most, and what the vote makes of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lrensemble.array import Array


class MemberScores(NamedTuple):
    """Of the members of one team, each alone."""

    mean_accuracy: float
    best_accuracy: float  # on these very rows: known only in hindsight
    oracle_accuracy: float  # share of the rows that at least one member gets right: no vote can be better
    disagreement: float | None  # mean over pairs: share of the rows with two different predicted classes; None for one


def member_scores(predictions: Iterable[Array], labels: Array) -> MemberScores:
    """From the (N, C) predictions of S members, one after the other.

    Oracle accuracy: Kuncheva 2014, ch. 4; disagreement of predicted classes: Fort et al. 2019 (the diversity metric BD
    asks instead whether one is right and the other wrong).
    """
    accuracies: list[float] = []
    oracle = np.zeros(len(labels), dtype=bool)
    votes: Array | None = None  # (N, C): how many members predict the class
    for p in predictions:
        choice = p.argmax(-1)
        right = choice == labels
        oracle |= right
        accuracies.append(float(right.mean()))
        if votes is None:
            votes = np.zeros(p.shape, dtype=np.int32)
        votes[np.arange(len(labels)), choice] += 1
    size, pairs = len(accuracies), len(accuracies) * (len(accuracies) - 1) / 2
    # Members that agree are pairs within a class.
    agreeing = 0.0 if votes is None else float((votes * (votes - 1) / 2).sum(-1).mean())
    return MemberScores(
        mean_accuracy=float(np.mean(accuracies)),
        best_accuracy=max(accuracies),
        oracle_accuracy=float(oracle.mean()),
        disagreement=1 - agreeing / pairs if size > 1 else None,
    )
