"""Places of the choices of a question: what they are called, and where the right one stands."""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import NDArray

LETTERS = string.ascii_uppercase


def place_names(count: int) -> list[str]:
    """A, B, C, ..., or numbers from 0 where there are more places than letters."""
    return [LETTERS[i] if count <= len(LETTERS) else str(i) for i in range(count)]


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
