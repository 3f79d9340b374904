"""What holds when something changes: corrupted and foreign rows, the training rows, another learning rate."""

from lrensemble.robustness.base_lr import LrRobustness, lr_robustness, train_scaled
from lrensemble.robustness.corruption import Corrupted, corruption
from lrensemble.robustness.loss import LossDifference, loss_difference
from lrensemble.robustness.ood import Detection, out_of_distribution

__all__ = [
    "Corrupted",
    "Detection",
    "LossDifference",
    "LrRobustness",
    "corruption",
    "loss_difference",
    "lr_robustness",
    "out_of_distribution",
    "train_scaled",
]
