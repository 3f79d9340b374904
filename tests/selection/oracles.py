"""Made-up pools, and plain loops that say what is right."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import accuracy_score, log_loss

TINY = float(np.finfo(np.float64).eps)


def make(members=6, rows=60, classes=3, seed=0, quality=1.0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(size=(members, rows, classes)) * 1.5
    logits[:, np.arange(rows), labels] += quality * rng.uniform(0.2, 1.5, (members, 1))
    p = np.exp(logits)
    return (p / p.sum(-1, keepdims=True)).astype(dtype), labels


def plain_vote(weights, P, vote="soft"):
    """Row by row, as one would write it down: (N, C)."""
    weights = np.asarray(weights, dtype=float) / np.sum(weights)
    n, classes = P.shape[1:]
    out = np.zeros((n, classes))
    for i in range(n):
        rows = P[:, i].astype(float)
        soft = sum(w * row for w, row in zip(weights, rows, strict=True))
        shares = np.bincount(rows.argmax(1), weights=weights, minlength=classes)
        if vote == "soft":
            out[i] = soft
        elif vote == "logit":
            # The logarithm of float32 is float32's.
            logs = np.log(np.maximum(P[:, i], np.asarray(TINY, dtype=P.dtype))).astype(float)
            z = np.exp(sum(w * log for w, log in zip(weights, logs, strict=True)))
            out[i] = z / z.sum()
        elif vote == "plurality":
            out[i] = shares
        elif vote == "majority":
            out[i] = shares if shares.max() > 0.5 + 1e-9 else soft
        elif vote == "borda":
            points = [[(r < x).sum() + ((r == x).sum() - 1) / 2 for x in r] for r in rows]
            total = sum(w * np.array(point) for w, point in zip(weights, points, strict=True))
            out[i] = total / total.sum()
    return out


def plain_score(weights, P, y, objective, vote="soft"):
    p = plain_vote(weights, P, vote)
    if objective == "accuracy":
        return accuracy_score(y, p.argmax(1))
    p = np.clip(p, TINY, 1)
    return float(np.log(p[np.arange(len(y)), y]).mean())


def sklearn_score(weights, P, y, objective):
    """The soft vote's, by scikit-learn."""
    vote = np.average(P.astype(float), axis=0, weights=weights)
    if objective == "accuracy":
        return accuracy_score(y, vote.argmax(1))
    return -log_loss(y, vote / vote.sum(1, keepdims=True), labels=range(P.shape[2]))


def plain_greedy(P, y, objective, steps=40, size=None, replacement=True, start=()):
    """Caruana's loop over sums in float64, all members in every step, from the members of `start`: the picks."""
    P = P.astype(np.float64)
    members, n = P.shape[:2]
    true = P[:, np.arange(n), y]
    total, true_total = np.zeros(P.shape[1:]), np.zeros(n)
    counts = np.zeros(members, dtype=int)
    picks = []
    for m in start:
        counts[m] += 1
        total += P[m]
        true_total += true[m]
    for step in range(len(start) + 1, len(start) + steps + 1):
        chosen = counts > 0
        open_ = np.flatnonzero(chosen) if size is not None and chosen.sum() == size else np.arange(members)
        if not replacement:
            open_ = open_[~chosen[open_]]
        if len(open_) == 0:
            break
        nll = np.array([-np.log(np.clip((true_total + true[m]) / step, TINY, 1)).mean() for m in open_])
        right = [((total + P[m]).argmax(-1) == y).mean() for m in open_] if objective == "accuracy" else []
        score = np.array(right) if objective == "accuracy" else -nll
        best = open_[np.lexsort((open_, nll, ~chosen[open_], -score))[0]]
        picks.append(int(best))
        counts[best] += 1
        total += P[best]
        true_total += true[best]
    return picks


def plain_way(P, y, objective, steps=40, size=None, replacement=True):
    """`plain_greedy`, and for accuracy from its other starts where a single member is best: picks, -1 for a start."""

    def way(start):
        picks = plain_greedy(P, y, objective, steps, size, replacement, start)
        first = max(1, len(start))
        teams = [np.bincount([*start, *picks][:k], minlength=len(P)) for k in range(first, len(start) + len(picks) + 1)]
        scores = [plain_score(team, P, y, objective) for team in teams]
        best = int(np.argmax(scores))
        return scores[best], teams[best], ([-1] if len(start) else []) + picks

    first = way([])
    most = len(P) if size is None else min(size, len(P))
    if objective == "nll" or (first[1] > 0).sum() > 1 or most < 2:
        return first[2]
    singles = [plain_score(team, P, y, "accuracy") for team in np.eye(len(P))]
    ranked: list[int] = []  # each member once: with its copy it is itself
    for member in np.argsort(-np.array(singles), kind="stable").tolist():
        if not any((P[member] == P[other]).all() for other in ranked):
            ranked.append(member)
    ranked = ranked[:most]
    if len(ranked) < 2:
        return first[2]
    together = [plain_score(np.isin(range(len(P)), ranked[:k]), P, y, "accuracy") for k in range(2, len(ranked) + 1)]
    others = [way(ranked[:k]) for k in sorted({2, 2 + int(np.argmax(together))})]
    return max([first, *others], key=lambda found: found[0])[2]
