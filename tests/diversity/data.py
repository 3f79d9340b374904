"""Pools of predictions, and the metrics as their papers write them: loops over rows and pairs."""

from __future__ import annotations

import itertools
import math

import numpy as np


def make_classes(members=6, rows=80, classes=4, seed=0, accuracy=0.7):
    """Predicted classes (M, N) and labels (N,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    right = rng.random((members, rows)) < accuracy + 0.2 * rng.uniform(-1, 1, (members, 1))
    return np.where(right, labels, rng.integers(0, classes, (members, rows))), labels


def make_probabilities(members=6, rows=80, classes=4, seed=0, quality=1.0):
    """Float32 probabilities (M, N, C) with errors that members share in part, and labels (N,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(size=(1, rows, classes)) + rng.normal(size=(members, rows, classes))
    logits[:, np.arange(rows), labels] += quality + rng.uniform(-0.5, 0.5, (members, 1))
    p = np.exp(logits)
    return (p / p.sum(-1, keepdims=True)).astype(np.float32), labels


def naive(predicted, labels, metric):
    """The metric of one team, from its definition; NaN where that divides 0 by 0."""
    team = [list(map(int, member)) for member in predicted]
    y = list(map(int, labels))
    n, size = len(y), len(team)
    wrong = [[a != b for a, b in zip(member, y, strict=True)] for member in team]
    fails = [sum(column) for column in zip(*wrong, strict=True)]
    if size < 2:
        return math.nan
    share = [fails.count(i) / n for i in range(size + 1)]
    try:
        if metric in ("CK", "QS", "BD", "rho", "DF"):
            pairs = list(itertools.combinations(range(size), 2))
            return sum(_pair(team[i], team[j], wrong[i], wrong[j], metric) for i, j in pairs) / len(pairs)
        if metric == "KW":
            return sum((size - f) * f for f in fails) / (n * size**2)
        if metric == "E":
            return sum(min(f, size - f) for f in fails) / (n * (size - math.ceil(size / 2)))
        if metric == "GD":
            p1 = sum(i / size * p for i, p in enumerate(share))
            p2 = sum(i * (i - 1) / (size * (size - 1)) * p for i, p in enumerate(share))
            return 1 - p2 / p1
        if metric == "CF":
            if share[0] == 1:
                return 0.0
            return sum((size - i) / (size - 1) * share[i] for i in range(1, size + 1)) / (1 - share[0])
        assert metric == "FK"
        classes = sorted(set(itertools.chain(*team)))
        table = [[column.count(k) for k in classes] for column in zip(*team, strict=True)]
        observed = sum((sum(v * v for v in row) - size) / (size * (size - 1)) for row in table) / n
        chance = sum((sum(column) / (n * size)) ** 2 for column in zip(*table, strict=True))
        return (observed - chance) / (1 - chance)
    except ZeroDivisionError:
        return math.nan


def _pair(a, b, wrong_a, wrong_b, metric):
    n = len(a)
    if metric == "CK":
        observed = sum(i == j for i, j in zip(a, b, strict=True)) / n
        chance = sum(a.count(k) * b.count(k) for k in set(a) | set(b)) / n**2
        return (observed - chance) / (1 - chance)
    both = list(zip(wrong_a, wrong_b, strict=True))
    n11, n00 = both.count((False, False)), both.count((True, True))
    n10, n01 = both.count((False, True)), both.count((True, False))
    if metric == "QS":
        return (n11 * n00 - n01 * n10) / (n11 * n00 + n01 * n10)
    if metric == "rho":
        return (n11 * n00 - n01 * n10) / math.sqrt((n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00))
    return (n01 + n10) / n if metric == "BD" else n00 / n
