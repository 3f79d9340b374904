"""Pure functions from probabilities and labels to scores and intervals."""

from lrensemble.metrics.bootstrap import bootstrap_means, percentile_interval
from lrensemble.metrics.calibration import (
    Reliability,
    adaptive_calibration_error,
    expected_calibration_error,
    reliability,
)
from lrensemble.metrics.classes import PerClass, confusion, most_confused, per_class
from lrensemble.metrics.detection import Auroc, auroc, uncertainty
from lrensemble.metrics.members import MemberScores, member_scores
from lrensemble.metrics.named import (
    METRICS,
    PredictionMetric,
    find_metric,
    load_metric,
    register_metric,
    register_metrics,
    resampled,
    try_metric,
)
from lrensemble.metrics.scores import (
    TIE,
    TINY,
    brier_rows,
    correct_rows,
    is_one_hot,
    nll_of,
    nll_rows,
    settled,
    top_k_rows,
    true_class,
    winners,
)
from lrensemble.metrics.selective import risk_coverage
from lrensemble.metrics.significance import (
    McNemar,
    holm,
    mcnemar,
    paired_interval,
    share_interval,
    standard_error,
    t_interval,
)
from lrensemble.metrics.utility import Confidence, check_finite, confidence, summary, utility

__all__ = [
    "METRICS",
    "TIE",
    "TINY",
    "Auroc",
    "Confidence",
    "McNemar",
    "MemberScores",
    "PerClass",
    "PredictionMetric",
    "Reliability",
    "adaptive_calibration_error",
    "auroc",
    "bootstrap_means",
    "brier_rows",
    "check_finite",
    "confidence",
    "confusion",
    "correct_rows",
    "expected_calibration_error",
    "find_metric",
    "holm",
    "is_one_hot",
    "load_metric",
    "mcnemar",
    "member_scores",
    "most_confused",
    "nll_of",
    "nll_rows",
    "paired_interval",
    "per_class",
    "percentile_interval",
    "register_metric",
    "register_metrics",
    "reliability",
    "resampled",
    "risk_coverage",
    "settled",
    "share_interval",
    "standard_error",
    "summary",
    "t_interval",
    "top_k_rows",
    "true_class",
    "try_metric",
    "uncertainty",
    "utility",
    "winners",
]
