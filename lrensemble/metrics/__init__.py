"""Pure functions from probabilities and labels to scores and intervals."""

from lrensemble.metrics.bootstrap import bootstrap_means, percentile_interval
from lrensemble.metrics.scores import (
    TINY,
    brier_rows,
    correct_rows,
    expected_calibration_error,
    nll_of,
    nll_rows,
    summary,
    true_class,
)

__all__ = [
    "TINY",
    "bootstrap_means",
    "brier_rows",
    "correct_rows",
    "expected_calibration_error",
    "nll_of",
    "nll_rows",
    "percentile_interval",
    "summary",
    "true_class",
]
