"""Checkpoints that exist become members: of Lightning, Hugging Face, timm, Ray Tune, Optuna, or a loop of one's own."""

from lrensemble.adopt.members import Adopted, adopt
from lrensemble.adopt.worth import Worth, worth

__all__ = ["Adopted", "Worth", "adopt", "worth"]
