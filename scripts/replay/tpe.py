"""TPE (optuna) as a strategy of the replay: it suggests a policy of low NLL, and the nearest candidate is taken."""

from __future__ import annotations

import numpy as np
import optuna

from lrensemble.metrics import nll_of
from lrensemble.recommend.features import FINAL, MEAN, PEAK, RISES
from scripts.replay.replay import START, Known

COLUMNS = (MEAN, PEAK, FINAL, RISES)


def tpe(now: Known, seed: int) -> int:
    """Position of the candidate nearest to what TPE suggests: of the suggested function, where there is one left.

    The search space is the LR function and four numbers of the curve; a failed run counts as a uniform guess.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    evidence = now.evidence
    seen = np.vstack([evidence.features, evidence.failed])[:, COLUMNS]
    values = np.r_[nll_of(evidence.true).mean(1), np.full(len(evidence.failed), -np.log(evidence.chance))]
    functions = [policy.split("(")[0] for policy in (*now.trained_policies, *now.failed_policies)]
    mine = [policy.split("(")[0] for policy in now.policies]
    candidates = now.features[:, COLUMNS]
    low, high = np.vstack([seen, candidates]).min(0), np.vstack([seen, candidates]).max(0)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        str(i): optuna.distributions.FloatDistribution(float(low[i]), float(high[i]) + 1e-9)
        for i in range(len(COLUMNS))
    }
    space["function"] = optuna.distributions.CategoricalDistribution(sorted({*functions, *mine}))
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=START))
    for row, function, value in zip(seen, functions, values, strict=True):
        params = {**{str(i): float(x) for i, x in enumerate(row)}, "function": function}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=float(value)))
    wish = study.ask(space).params
    point = np.array([wish[str(i)] for i in range(len(COLUMNS))])
    distances = (((candidates - point) / np.maximum(high - low, 1e-9)) ** 2).sum(1)
    same = np.array([function == wish["function"] for function in mine])
    return int(np.where(same, distances, distances + 1e6).argmin())
