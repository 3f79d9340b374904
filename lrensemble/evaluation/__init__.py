"""Selected teams on data that selection never saw."""

from lrensemble.evaluation.control import Comparison
from lrensemble.evaluation.network import Network, load_data, load_network
from lrensemble.evaluation.paired import Gain
from lrensemble.evaluation.scoring import Evaluation, Score, evaluate
from lrensemble.evaluation.verdict import verdict

__all__ = [
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
