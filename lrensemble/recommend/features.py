"""The shape of an LR curve in a few numbers, in decades of LR, so that distances between policies mean something."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrensemble.array import Array
from lrensemble.policies import Policy
from lrensemble.policies.units import steps_per_epoch
from lrensemble.pool import RunSpec

GRID = 240  # points of the budget at which the LR is read; a wave of more than 100 cycles is seen as its mean
FLOOR = 1e-5  # lower LRs count as this: they train nothing
FIFTHS = 5

NAMES = ("mean LR", "peak LR", "final LR", *(f"LR in fifth {i + 1}" for i in range(FIFTHS)), "rises")
# Columns that share a length scale: how large the LR is, how it ends, and the course in between.
GROUPS: tuple[tuple[int, ...], ...] = ((0, 1), (2,), tuple(range(3, len(NAMES))))
MEAN, PEAK, FINAL, RISES = 0, 1, 2, len(NAMES) - 1


def lr_features(policy: Policy, *, steps_per_epoch: int, total_steps: int) -> Array:
    """Features of a policy over its budget: (F,), named by `NAMES`.

    LRs are logarithms to the base 10 of means over time: of the whole budget, of its last 2 %, and of every fifth of
    it (relative to the whole). The peak is the highest LR. Rises count how often the LR turns upwards, as log2(1 + n).
    """
    bound = policy.bind(steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    steps = np.unique(np.linspace(0, total_steps - 1, GRID).round())
    lr = np.maximum(bound(steps), FLOOR)
    last = bound(np.unique(np.linspace(0.98 * (total_steps - 1), total_steps - 1, 20).round()))
    mean, final = np.log10(lr.mean()), np.log10(max(float(last.mean()), FLOOR))
    fifths = [np.log10(part.mean()) - mean if len(part) else 0.0 for part in np.array_split(lr, FIFTHS)]
    return np.array([mean, np.log10(lr.max()), final, *fifths, np.log2(1 + _rises(lr))])


def _rises(lr: Array) -> int:
    """How often the curve turns upwards, by more than rounding."""
    change = np.diff(np.log10(lr))
    signs = np.sign(change[np.abs(change) > 1e-4])
    return int(np.sum((signs == 1) & (np.concatenate([[-1], signs[:-1]]) == -1)))


def with_configuration(shapes: Array, steps: Sequence[int], settings: Sequence[Sequence[str]]) -> Array:
    """Features of runs whose budget or configuration varies: the shape, then one group more.

    Parameters
    ----------
    shapes : (M, F) array of `lr_features`
    steps : M numbers of optimizer steps
    settings : M times as many texts: model, optimizer, ... of every run

    Returns
    -------
    (M, F + G) array
        With log2 of the steps, and 0.7 in one column for every value of every setting (two runs that differ in one
        setting have distance 1); columns that do not vary are left out.
    """
    columns = [np.log2(np.asarray(steps, dtype=np.float64))]
    for values in zip(*settings, strict=True):
        columns += [np.sqrt(0.5) * (np.array(values) == value) for value in sorted(set(values))]
    more = np.column_stack(columns)
    varies = np.ptp(more, axis=0) > 0
    return np.column_stack([shapes, more[:, varies]])


def groups_of(width: int) -> list[list[int]]:
    """The groups of columns of `width` features."""
    groups = [list(group) for group in GROUPS]
    if width > len(NAMES):
        groups.append(list(range(len(NAMES), width)))
    return groups


def difference(candidate: Array, other: Array) -> str:
    """In words, how the first policy's curve differs most from the second's: "higher final LR"."""
    change = candidate[: len(NAMES)] - other[: len(NAMES)]
    # The fifths repeat what the three LRs say; they speak where those are equal.
    weights = np.array([1.0, 1.0, 0.7, *[0.5] * FIFTHS, 0.5])
    most = int(np.argmax(np.abs(change) * weights))
    if np.abs(change[most]) * weights[most] < 0.05:
        return ""
    if most == RISES:
        return "more rises" if change[most] > 0 else "fewer rises"
    return f"{'higher' if change[most] > 0 else 'lower'} {NAMES[most]}"


def total_steps(spec: RunSpec, train_rows: int) -> tuple[int, int]:
    """Optimizer steps an epoch, and in all."""
    per_epoch = steps_per_epoch(train_rows, spec.training.batch_size)
    return per_epoch, per_epoch * spec.training.epochs


def spec_features(specs: Sequence[RunSpec], train_rows: int) -> Array:
    """Features of runs, comparable with each other: (M, F). Give known ones and candidates together."""
    shapes, steps, settings = [], [], []
    for spec in specs:
        per_epoch, total = total_steps(spec, train_rows)
        shapes.append(lr_features(Policy.parse(spec.policy), steps_per_epoch=per_epoch, total_steps=total))
        steps.append(total)
        settings.append(configuration(spec))
    return with_configuration(np.array(shapes), steps, settings)


def configuration(spec: RunSpec) -> tuple[str, str, str]:
    """What a run has beside policy, seed and budget: model, optimizer and how it is trained."""
    training = spec.training.model_copy(update={"epochs": 1})
    return str(spec.model), str(spec.optimizer), training.model_dump_json(exclude_defaults=True)
