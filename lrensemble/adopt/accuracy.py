"""Whether a network's accuracy on validation is what a network of this task, and its own log, would have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from lrensemble.adopt.beside import RunFacts
from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.metrics import standard_error
from lrensemble.tasks import Task

ERRORS = 3  # standard errors above chance from which a network is said to know something


def check_accuracy(
    path: Path, val: Array, task: Task, chance: float, run: RunFacts, tell: Callable[[str], object]
) -> None:
    """`UserError` where a network knows nothing of the task; a line where its log says much more than it does here."""
    labels = task.labels("val")
    if not np.isfinite(val).all():
        return  # it becomes a member that is diverged, as everywhere
    logged = next((line["val_accuracy"] for line in reversed(run.history) if "val_accuracy" in line), None)
    if why := _contradiction(val, labels, chance, tuple(task.class_names), logged):
        raise UserError(f"{path}: {why}")
    accuracy = float((val.argmax(1) == labels).mean())
    best = max((line["val_accuracy"] for line in run.history if "val_accuracy" in line), default=1.0)
    if accuracy > best + 0.02 + 3 * standard_error(accuracy, len(labels)):
        tell(
            f"{path}: validation accuracy {100 * accuracy:.1f} % here, at best {100 * best:.1f} % in its "
            "log: was it trained on some of these rows? Then what chooses and judges teams is flattered"
        )
    if logged is not None and accuracy < logged - 0.1:
        tell(
            f"{path}: validation accuracy {100 * accuracy:.1f} % here, {100 * logged:.1f} % in its log: of "
            "other rows, or inputs that were made in another way?"
        )


def _contradiction(probabilities: Array, labels: Array, chance: float, names: tuple[str, ...], logged: Any) -> str:
    """Why a network does not seem to be one of this task: its validation accuracy is chance, or worse; else empty.

    With another order of its classes it may be right: that is said, found as an assignment of its classes.
    """
    classes, n = len(names), len(labels)
    predicted = probabilities.argmax(1)
    accuracy = float((predicted == labels).mean())
    if accuracy > chance + ERRORS * standard_error(chance, n):
        return ""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (predicted, labels), 1)
    rows, columns = linear_sum_assignment(-counts)
    best = counts[rows, columns].sum() / n
    said = f"its accuracy on validation is {100 * accuracy:.1f} % (n = {n:,}), "
    said += f"no better than chance ({100 * chance:.1f} %)"
    if isinstance(logged, float) and logged > accuracy:
        said += f" where its log says {100 * logged:.1f} %"
    # The best assignment of random predictions is above chance, too, by some errors.
    if best > max(2 * chance, chance + 10 * standard_error(chance, n)) and best > accuracy + 0.1:
        order = ", ".join(names[column] for column in columns[:20])
        return f"{said}: its classes seem to be in another order ({order}), with which it would be {100 * best:.1f} %"
    return f"{said}: were its inputs normalised in another way, or its classes in another order?"
