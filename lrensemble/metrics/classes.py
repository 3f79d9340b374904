"""Which classes a prediction is good at, and which it takes for each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lrensemble.array import Array


class PerClass(NamedTuple):
    """One number a class (C,); NaN where it is undefined (no row of the class, or none predicted as it)."""

    support: Array  # rows of the class
    recall: Array  # share of them that is right: the accuracy within the class
    precision: Array  # share of the rows predicted as the class that is right
    f1: Array


def per_class(probabilities: Array, labels: Array) -> PerClass:
    """Recall, precision and F1 of every class of one (N, C) prediction, by scikit-learn."""
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, support = precision_recall_fscore_support(
        labels, probabilities.argmax(-1), labels=np.arange(probabilities.shape[-1]), zero_division=np.nan
    )
    return PerClass(support, recall, precision, f1)


def confusion(probabilities: Array, labels: Array) -> Array:
    """Rows of every true class (first axis) by predicted class: (C, C) integers."""
    classes = probabilities.shape[-1]
    pairs = np.asarray(labels) * classes + probabilities.argmax(-1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def most_confused(matrix: Array, count: int = 10) -> list[tuple[int, int, int]]:
    """The most frequent errors in a confusion matrix: (true class, predicted class, rows), most rows first."""
    errors = np.array(matrix)
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [(int(i), int(j), int(errors[i, j])) for i, j in pairs if errors[i, j]]
