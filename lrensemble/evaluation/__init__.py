"""Selected teams on data that selection never saw."""

from lrensemble.evaluation.network import Network, load_data, load_network
from lrensemble.evaluation.results import BASELINES, Comparison, Evaluation, Gain, Score
from lrensemble.evaluation.scoring import evaluate
from lrensemble.evaluation.verdict import verdict

__all__ = [
    "BASELINES",
    "Comparison",
    "Evaluation",
    "Gain",
    "Network",
    "Score",
    "evaluate",
    "load_data",
    "load_network",
    "verdict",
]
