"""Selected teams on data that selection never saw."""

from lrensemble.evaluation.results import BASELINES, Comparison, Evaluation, Gain, Score
from lrensemble.evaluation.scoring import evaluate
from lrensemble.evaluation.verdict import verdict

__all__ = [
    "BASELINES",
    "Comparison",
    "Evaluation",
    "Gain",
    "Score",
    "evaluate",
    "verdict",
]
