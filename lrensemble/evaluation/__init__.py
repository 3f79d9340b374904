"""Selected teams on data that selection never saw."""

from lrensemble.evaluation.control import Comparison
from lrensemble.evaluation.paired import Gain
from lrensemble.evaluation.scoring import Evaluation, Score, evaluate
from lrensemble.evaluation.verdict import verdict

__all__ = ["Comparison", "Evaluation", "Gain", "Score", "evaluate", "verdict"]
