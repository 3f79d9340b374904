"""Selected teams on data that selection never saw."""

from lrensemble.evaluation.details import Details, details
from lrensemble.evaluation.pools import OverPools, over_pools
from lrensemble.evaluation.repeats import Repeated, repeat
from lrensemble.evaluation.results import BASELINES, Bill, Comparison, Evaluation, Gain, OverRuns, Score
from lrensemble.evaluation.scoring import evaluate
from lrensemble.evaluation.verdict import verdict

__all__ = [
    "BASELINES",
    "Bill",
    "Comparison",
    "Details",
    "Evaluation",
    "Gain",
    "OverPools",
    "OverRuns",
    "Repeated",
    "Score",
    "details",
    "evaluate",
    "over_pools",
    "repeat",
    "verdict",
]
