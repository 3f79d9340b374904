"""Choices of a question: what their places are called, where the right one stands, and what guessing scores."""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import NDArray

LETTERS = string.ascii_uppercase


def place_names(count: int) -> list[str]:
    """A, B, C, ..., or numbers from 0 where there are more places than letters."""
    return [LETTERS[i] if count <= len(LETTERS) else str(i) for i in range(count)]


def guessing(classes: int, choices: NDArray[np.bool] | None) -> float:
    """Accuracy of guessing: 1 / classes, or the mean of 1 / choices where (N, C) truth values say what rows have."""
    return 1 / classes if choices is None else float((1 / choices.sum(1)).mean())


def balanced_places(counts: NDArray[np.int64], order: NDArray[np.intp]) -> NDArray[np.int64]:
    """Where the right choice of every question stands, so that none of the places says anything.

    Of questions with as many choices every place is right equally often (up to one), handed out in this `order` of the
    questions. So a scorer that finds all choices alike scores chance, up to whole rows, wherever ties go.

    Parameters
    ----------
    counts : (N,) choices of each question
    order : (N,) a permutation of the questions
    """
    places = np.empty_like(counts)
    for count in np.unique(counts):
        rows = order[counts[order] == count]
        places[rows] = np.arange(len(rows)) % count
    return places
