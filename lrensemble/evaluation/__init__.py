"""Selected teams on data that selection never saw."""

from lrensemble.evaluation.scoring import Comparison, Evaluation, Score, evaluate
from lrensemble.evaluation.verdict import Gain, verdict

__all__ = ["Comparison", "Evaluation", "Gain", "Score", "evaluate", "verdict"]
