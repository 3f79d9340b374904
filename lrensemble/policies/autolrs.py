"""AUTOLRS: Bayesian optimisation of the LR, stage by stage, by short trials from where the run stands.

Jin et al., "AutoLRS: Automatic Learning-Rate Schedule by Bayesian Optimization on the Fly", ICLR 2021. In every stage
some LRs are tried for a tenth of it each, a Gaussian process says which one next, the loss at the end of the stage is
forecast by an exponential, and the LR of the lowest forecast is kept for the whole stage. The trials cost as much as
the training itself. Ours looks at the training loss alone, where the paper mixes in the validation loss.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.policies.control import Controller, Probing, register_control
from lrensemble.policies.registry import Parameter
from lrensemble.policies.units import Length

CANDIDATES = 200  # LRs among which the process chooses
EXPLORATION = 0.1  # deviations that an improvement must be hoped for by


@register_control(
    "AUTOLRS",
    "constant in every stage: the LR within low and high for which short trials from its beginning forecast the lowest "
    "loss at its end; they take `trials` times `share` of the training's own steps beside it",
    "Jin et al. 2021 (AutoLRS)",
    Parameter("low", "lowest LR", low_open=True, default=1e-4),
    Parameter("high", "highest LR", low_open=True, default=1.0),
    Parameter("stages", "of the budget, equally long", low=1.0, high=1000.0, default=10.0),
    Parameter("trials", "LRs that are tried in every stage", low=2.0, high=100.0, default=10.0),
    Parameter("share", "of a stage that a trial lasts", low_open=True, high=1.0, default=0.1),
    Parameter("l", "the budget", "length", low_open=True, default="100%"),
)
class AutoLRS(Controller):
    """Searches the LR of every stage from a checkpoint."""

    probes = True

    def __init__(
        self,
        low: float,
        high: float,
        stages: float,
        trials: float,
        share: float,
        l: Length,  # noqa: E741 (the parameter's name in the text form)
    ) -> None:
        self.low, self.high, self.trials = min(low, high), max(low, high), int(trials)
        self.looks = max(1, math.ceil(l.value / int(stages)))
        self.steps = max(2, round(share * self.looks))
        self.total = l.value
        super().__init__(lr=math.sqrt(low * high), probes=[])

    def begin(self, probing: Probing) -> None:
        self._search(0, probing)

    def lr(self, step: int) -> float:
        lr: float = self.known["lr"]
        return lr

    def observe(self, step: int, loss: float | None, probing: Probing) -> None:
        if (step + 1) % self.looks == 0 and step + 1 < self.total:  # also asked at the ends of epochs
            self._search(step + 1, probing)

    def report(self) -> dict[str, Any]:
        return {"probes": self.known["probes"]}

    def _search(self, step: int, probing: Probing) -> None:
        logs: list[float] = []
        forecasts: list[float] = []
        draw = len(self.known["probes"])
        for _ in range(self.trials):
            log = self._next(logs, forecasts)
            # The same batches for every LR, so that the trials differ in nothing else.
            losses = probing.trial([math.exp(log)] * self.steps, draw)
            logs.append(log)
            forecasts.append(forecast(losses, self.looks))
        if np.isfinite(forecasts).any():
            self.known["lr"] = math.exp(logs[int(np.argmin(forecasts))])
        else:
            self.known["lr"] = self.low
            warnings.warn(
                f"AUTOLRS: all {self.trials} trials at step {step:,} exploded, so the lowest LR is taken "
                f"(low = {self.low:g}): give a lower one",
                stacklevel=2,
            )
        self.known["probes"].append(
            {
                "step": step,
                "lrs": [math.exp(log) for log in logs],
                "forecasts": [value if math.isfinite(value) else None for value in forecasts],
                "lr": self.known["lr"],
            }
        )

    def _next(self, logs: Sequence[float], forecasts: Sequence[float]) -> float:
        """The log LR to try next: the ends and the middle, then where the expected improvement is largest."""
        low, high = math.log(self.low), math.log(self.high)
        if len(logs) < 3:
            return (low + high) / 2 + (0, -0.3, 0.3)[len(logs)] * (high - low)
        return next_point(np.array(logs), np.array(forecasts), np.linspace(low, high, CANDIDATES))


def forecast(losses: Sequence[float], steps: int) -> float:
    """The loss after `steps` by a fit of a + b exp(-c t), a and b >= 0, to the losses of the first ones.

    A trial that ends above where it began has no future: the end counts, inf where it is not finite.
    """
    y = np.asarray(losses, dtype=float)
    part = max(1, len(y) // 4)
    end = float(y[-part:].mean())
    if not math.isfinite(end) or end >= y[:part].mean() or end >= y[0]:
        return end if math.isfinite(end) else math.inf
    t = np.arange(len(y)) / max(len(y) - 1, 1)
    horizon = steps / max(len(y) - 1, 1)
    found = (math.inf, end)
    for rate in np.geomspace(0.03, 10, 24):  # linear in a and b for every rate
        fall = np.exp(-rate * t)
        (a, b), *_ = np.linalg.lstsq(np.stack([np.ones_like(t), fall], axis=1), y, rcond=None)
        if a < 0:
            a, b = 0.0, fall @ y / (fall @ fall)
        if b > 0:
            residual = float(((a + b * fall - y) ** 2).sum())
            found = min(found, (residual, float(a + b * np.exp(-rate * horizon))))
    return found[1]


def next_point(x: NDArray[np.float64], y: NDArray[np.float64], candidates: NDArray[np.float64]) -> float:
    """Where the expected improvement upon the lowest y is largest, by a Gaussian process with a Matern kernel."""
    from scipy.special import ndtr
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern, WhiteKernel

    finite = np.isfinite(y)
    if not finite.any():
        return float(candidates[0])
    y = np.where(finite, y, y[finite].max())  # an explosion is as bad as the worst
    spread = y.std() or 1.0
    kernel = Matern(length_scale=1.0, length_scale_bounds=(0.3, 10), nu=2.5) + WhiteKernel(0.05, (1e-3, 1.0))
    process = GaussianProcessRegressor(kernel, normalize_y=False, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(x[:, None], (y - y.mean()) / spread)
    mean, deviation = process.predict(candidates[:, None], return_std=True)
    hope = (y.min() - y.mean()) / spread - mean - EXPLORATION * deviation
    z = hope / np.maximum(deviation, 1e-12)
    improvement = hope * ndtr(z) + deviation * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return float(candidates[int(np.argmax(improvement))])
