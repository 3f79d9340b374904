"""Metrics by name: what selection can optimise, and what `evaluate` and the report show beside accuracy and NLL.

    @register_metric("g_mean", of_labels=True)
    def g_mean(probabilities, labels):  # (N, C) and (N,); returns one number
        ...

An installed package lists its own under the entry points ``lrensemble.metrics`` (see `lrensemble.plugins`).
``package.module:function`` is imported where the user names it (`load_metric`), and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.metrics.calibration import adaptive_calibration_error, expected_calibration_error
from lrensemble.metrics.classes import confusion
from lrensemble.metrics.detection import share_below
from lrensemble.metrics.scores import brier_rows, correct_rows, nll_rows
from lrensemble.own import calling, current_folder, import_name, is_own, load_own, untrusted
from lrensemble.plugins import Registry, home_of

Function = Callable[[Array, Array], Any]
RESAMPLES = 200  # enough for a standard error (Efron & Tibshirani 1993, section 6.4)


@dataclass(frozen=True)
class PredictionMetric:
    """A number of class probabilities (N, C), whose ties are settled, and labels (N,); both are read-only.

    Attributes
    ----------
    of_labels : bool
        It asks for the most probable class alone, so it means something for members that give labels.
    """

    name: str
    function: Function
    greater_is_better: bool = True
    of_labels: bool = False

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.greater_is_better else -1

    def __call__(self, probabilities: Array, labels: Array) -> float:
        """Its value; a `UserError` that names it where it raises, or gives no finite number."""
        value = self.value(probabilities, labels)
        if not np.isfinite(value):
            raise UserError(f"metric {self.name} is {value:g} here: a finite number is needed")
        return value

    def value(self, probabilities: Array, labels: Array) -> float:
        """Its value, which may be infinite or NaN."""
        views = [np.asarray(array).view() for array in (probabilities, labels)]
        for view in views:
            view.flags.writeable = False
        with calling(f"metric {self.name}"):
            value = np.asarray(self.function(*views))
        if value.shape != () or value.dtype.kind not in "fiu":
            what = f"an array of shape {value.shape}" if value.shape else f"{value.item()!r:.60}"
            raise UserError(f"metric {self.name} returns {what}: one number is needed")
        return float(value)


def try_metric(metric: PredictionMetric, labels: Array, classes: int) -> None:
    """Raise `UserError` where it raises or gives no number; that of random predictions need not be finite."""
    p = np.random.default_rng(0).dirichlet(np.ones(classes), len(labels)).astype(np.float32)
    metric.value(p, labels)


def resampled(metric: PredictionMetric, probabilities: Array, labels: Array) -> Array:
    """Its values (`RESAMPLES`,) on bootstrap samples of the rows: the same rows for every prediction, so paired."""
    rng, n = np.random.default_rng(0), len(labels)
    samples = (rng.integers(0, n, n) for _ in range(RESAMPLES))
    return np.array([metric(probabilities[rows], labels[rows]) for rows in samples])


def balanced_accuracy(probabilities: Array, labels: Array) -> float:
    """Mean recall of the classes that have rows."""
    counts = confusion(probabilities, labels)
    rows = counts.sum(1)
    return float((np.diag(counts)[rows > 0] / rows[rows > 0]).mean())


def macro_f1(probabilities: Array, labels: Array) -> float:
    """Mean F1 of the classes that have rows or predictions."""
    counts = confusion(probabilities, labels)
    either = counts.sum(0) + counts.sum(1)
    return float((2 * np.diag(counts)[either > 0] / either[either > 0]).mean())


def macro_auroc(probabilities: Array, labels: Array) -> float:
    """Area under the ROC curve of every class that has rows against the rest, their mean; NaN for one class alone."""
    columns = np.ascontiguousarray(np.asarray(probabilities).T)
    masks = ((columns[c], labels == c) for c in np.unique(labels))
    areas = [share_below(p[mine], p[~mine]).mean() for p, mine in masks if not mine.all()]
    return float(np.mean(areas)) if areas else float("nan")


def perplexity(probabilities: Array, labels: Array) -> float:
    """exp of the NLL: of tokens, among how many equally probable ones a language model seems to choose."""
    return float(np.exp(nll_rows(probabilities, labels).mean()))


def _mean(of_rows: Function) -> Function:
    return lambda probabilities, labels: of_rows(probabilities, labels).mean()


_OURS = [
    PredictionMetric("accuracy", _mean(correct_rows), of_labels=True),
    PredictionMetric("nll", _mean(nll_rows), greater_is_better=False),
    PredictionMetric("brier", _mean(brier_rows), greater_is_better=False),
    PredictionMetric("ece", expected_calibration_error, greater_is_better=False),
    PredictionMetric("adaptive_ece", adaptive_calibration_error, greater_is_better=False),
    PredictionMetric("balanced_accuracy", balanced_accuracy, of_labels=True),
    PredictionMetric("macro_f1", macro_f1, of_labels=True),
    PredictionMetric("auroc", macro_auroc),
    PredictionMetric("perplexity", perplexity, greater_is_better=False),
]
METRICS: Registry[Function] = Registry("metrics", "metric", {metric.name: metric for metric in _OURS})


def register_metric(
    name: str, *, greater_is_better: bool = True, of_labels: bool = False
) -> Callable[[Function], PredictionMetric]:
    """Make the decorated function of probabilities (N, C) and labels (N,) a metric by name in this process.

    Raises
    ------
    UserError
        A name that is no identifier, or that another function has.
    """

    def add(function: Function) -> PredictionMetric:
        if not (isinstance(name, str) and name.isidentifier()):
            raise UserError(f"metric {name!r} ({home_of(function)}) is not possible: letters, digits and _ are needed")
        metric = PredictionMetric(name, function, greater_is_better, of_labels)
        METRICS.add(name, metric, home_of(function))
        return metric

    return add


def register_metrics(metrics: Mapping[str, Any]) -> list[str]:
    """Make functions (or metrics) of a task known by their names, and return names that other processes know too.

    These are ``package.module:function``, where a function can be imported; else there is none but its own.
    """
    names = []
    for name, metric in metrics.items():
        if not callable(metric):
            raise UserError(f"metric {name}: {metric!r:.60} is no function of probabilities and labels")
        known = metric if isinstance(metric, PredictionMetric) else register_metric(name)(metric)
        names.append(import_name(metric, known.function) or name)
        for alias in {name, names[-1]}:
            METRICS.add(alias, replace(known, name=alias), home_of(known.function))
    return names


def find_metric(name: str, what: str = "metric") -> PredictionMetric:
    """The metric of a name; `UserError` for an unknown one, and for a user's own that nobody named in this process."""
    if name not in METRICS:
        if is_own(name):
            raise untrusted(name, "metric")
        raise UserError(f"unknown {what} {name!r}: {METRICS.hint(name)} or package.module:function")
    found = METRICS.find(name)
    return replace(found, name=name) if isinstance(found, PredictionMetric) else PredictionMetric(name, found)


def load_metric(name: str, what: str = "metric") -> PredictionMetric:
    """`find_metric` of a name that the user gave: ``package.module:function`` is imported."""
    if is_own(name) and name not in METRICS:
        with current_folder():
            METRICS.add(name, load_own(name, "metric"), name)
    return find_metric(name, what)
