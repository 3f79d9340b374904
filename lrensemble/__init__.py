"""lrensemble: turn learning-rate tuning into ensembles.

>>> from lrensemble import Pool, evaluate, load_config, select_teams, train_pool  # doctest: +SKIP
>>> pool = train_pool(load_config("configs/digits.yaml"))  # doctest: +SKIP
>>> teams = select_teams(pool, ["greedy"])  # doctest: +SKIP
>>> print(evaluate(pool).verdicts["greedy"])  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lrensemble.version import __version__

if TYPE_CHECKING:
    from lrensemble.errors import UserError
    from lrensemble.evaluation import Evaluation, evaluate
    from lrensemble.export import Ensemble, export_team
    from lrensemble.policies import Policy, parse_policies
    from lrensemble.pool import Member, Pool, Team
    from lrensemble.pool.select import select_teams
    from lrensemble.tasks import Dataset, load_dataset
    from lrensemble.training import Config, load_config, train_pool
    from lrensemble.training.tuned import TunedLR

# Imported on first use: `import lrensemble` and `lrensemble --help` do not wait for torch.
_HOMES = {
    "Config": "training",
    "Dataset": "tasks",
    "Ensemble": "export",
    "Evaluation": "evaluation",
    "Member": "pool",
    "Policy": "policies",
    "Pool": "pool",
    "Team": "pool",
    "TunedLR": "training.tuned",
    "UserError": "errors",
    "evaluate": "evaluation",
    "export_team": "export",
    "load_config": "training",
    "load_dataset": "tasks",
    "parse_policies": "policies",
    "select_teams": "pool.select",
    "train_pool": "training",
}

__all__ = [
    "Config",
    "Dataset",
    "Ensemble",
    "Evaluation",
    "Member",
    "Policy",
    "Pool",
    "Team",
    "TunedLR",
    "UserError",
    "__version__",
    "evaluate",
    "export_team",
    "load_config",
    "load_dataset",
    "parse_policies",
    "select_teams",
    "train_pool",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"lrensemble.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lrensemble' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
