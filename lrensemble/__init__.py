"""lrensemble: turn learning-rate tuning into ensembles.

>>> from lrensemble import Pool, evaluate, load_config, select_teams, train_pool  # doctest: +SKIP
>>> pool = train_pool(load_config("configs/digits.yaml"))  # doctest: +SKIP
>>> teams = select_teams(pool, ["greedy"])  # doctest: +SKIP
>>> print(evaluate(pool).verdicts["greedy"])  # doctest: +SKIP

Everything that a program needs can be imported from here. `lrensemble.recommend` and `lrensemble.report` are packages,
whatever was imported before; their functions are `recommend_policies` and `write_report`.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lrensemble.version import __version__

if TYPE_CHECKING:
    from lrensemble.adopt import adopt as adopt_checkpoints
    from lrensemble.diversity import register_diversity
    from lrensemble.errors import UserError
    from lrensemble.estimator import LREnsembleClassifier
    from lrensemble.evaluation import Evaluation, evaluate
    from lrensemble.evaluation.network import load_network
    from lrensemble.export import Ensemble, export_team
    from lrensemble.export.soup import make_soups
    from lrensemble.metrics import register_metric
    from lrensemble.models import build_model, register_model
    from lrensemble.policies import Parameter, Policy, parse_policies
    from lrensemble.policies import register as register_policy
    from lrensemble.policies.scheduler import PolicyLR
    from lrensemble.pool import Member, Pool, Team
    from lrensemble.pool.importing import import_members
    from lrensemble.pool.lm_eval import import_lm_eval
    from lrensemble.pool.recorder import record_member
    from lrensemble.pool.select import select_teams
    from lrensemble.recommend.propose import propose
    from lrensemble.recommend.recommend import recommend as recommend_policies
    from lrensemble.recommend.rounds import run_rounds
    from lrensemble.recommend.verify import verify
    from lrensemble.report.page import write_report
    from lrensemble.selection import Selector, make_selector, register_selector
    from lrensemble.tasks import ArrayTask, Images, Task, load_task, register_task
    from lrensemble.training import Config, load_config, make_plan, train_pool
    from lrensemble.training.on_ray import Ray
    from lrensemble.training.range_test import find_lr
    from lrensemble.training.tuned import TunedLR

# Imported on first use: `import lrensemble` and `lrensemble --help` do not wait for torch.
_HOMES = {
    "ArrayTask": "tasks",
    "Config": "training",
    "Ensemble": "export",
    "Evaluation": "evaluation",
    "Images": "tasks",
    "LREnsembleClassifier": "estimator",
    "Member": "pool",
    "Parameter": "policies",
    "Policy": "policies",
    "PolicyLR": "policies.scheduler",
    "Pool": "pool",
    "Ray": "training.on_ray",
    "Selector": "selection",
    "Task": "tasks",
    "Team": "pool",
    "TunedLR": "training.tuned",
    "UserError": "errors",
    "adopt_checkpoints": "adopt",
    "build_model": "models",
    "evaluate": "evaluation",
    "export_team": "export",
    "find_lr": "training.range_test",
    "import_lm_eval": "pool.lm_eval",
    "import_members": "pool.importing",
    "load_config": "training",
    "load_network": "evaluation.network",
    "load_task": "tasks",
    "make_plan": "training",
    "make_selector": "selection",
    "make_soups": "export.soup",
    "parse_policies": "policies",
    "propose": "recommend.propose",
    "recommend_policies": "recommend.recommend",
    "record_member": "pool.recorder",
    "register_diversity": "diversity",
    "register_metric": "metrics",
    "register_model": "models",
    "register_policy": "policies",
    "register_selector": "selection",
    "register_task": "tasks",
    "run_rounds": "recommend.rounds",
    "select_teams": "pool.select",
    "train_pool": "training",
    "verify": "recommend.verify",
    "write_report": "report.page",
}
_NAMES = {
    "adopt_checkpoints": "adopt",
    "recommend_policies": "recommend",
    "register_policy": "register",
}  # where another one is clear

__all__ = [
    "ArrayTask",
    "Config",
    "Ensemble",
    "Evaluation",
    "Images",
    "LREnsembleClassifier",
    "Member",
    "Parameter",
    "Policy",
    "PolicyLR",
    "Pool",
    "Ray",
    "Selector",
    "Task",
    "Team",
    "TunedLR",
    "UserError",
    "__version__",
    "adopt_checkpoints",
    "build_model",
    "evaluate",
    "export_team",
    "find_lr",
    "import_lm_eval",
    "import_members",
    "load_config",
    "load_network",
    "load_task",
    "make_plan",
    "make_selector",
    "make_soups",
    "parse_policies",
    "propose",
    "recommend_policies",
    "record_member",
    "register_diversity",
    "register_metric",
    "register_model",
    "register_policy",
    "register_selector",
    "register_task",
    "run_rounds",
    "select_teams",
    "train_pool",
    "verify",
    "write_report",
]


_RENAMED = {"Dataset": "Images", "load_dataset": "load_task"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(f"lrensemble.{name} is called {_RENAMED[name]} now", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name in _HOMES:
        return getattr(import_module(f"lrensemble.{_HOMES[name]}"), _NAMES.get(name, name))
    raise AttributeError(f"module 'lrensemble' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
