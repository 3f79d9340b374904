"""Train members and fill pools."""

from lrensemble.training.config import Config, load_config
from lrensemble.training.plan import Plan, make_plan
from lrensemble.training.runner import train_pool

__all__ = ["Config", "Plan", "load_config", "make_plan", "train_pool"]
