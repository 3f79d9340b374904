"""LRTUNER: the peak LR is measured before the first step; it is held, falls to zero, and is watched by a guard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lrensemble.errors import UserError
from lrensemble.policies.control import CONSTANT, Controller, Probing, register_control
from lrensemble.policies.linesearch import line_search
from lrensemble.policies.registry import Parameter
from lrensemble.policies.sweep import sweep_curve
from lrensemble.policies.units import Length

UNKNOWN = 1e-3  # LR where neither the lines nor the range test say anything
RANGE = np.geomspace(1e-6, 10, 100).tolist()  # of the range test
LOOKS = 50  # of the guard in a run
FEWEST = 10  # steps between two of them
SNAPSHOTS = 10  # in a run, at most
RISE, SHARE = 1.2, 0.3  # of the best loss, and of the first: above their sum the guard acts
LEARNT, CHANCE = 0.8, 0.95  # of the first loss: from below the one to above the other, all that was learnt is gone
FEWEST_DRAWS = 4
COST = 0.05  # of the steps may go into the first measurement ...
COARSE_STEPS, DRAW_STEPS = 8.0, 5.0  # ... of which the rough look and every draw cost so many: a forward pass is 1 / 3


def _check(values: dict[str, Any]) -> None:
    parts, length = (values["explore"], values["exploit"]), values["l"]
    if all(part.unit == length.unit for part in parts):
        total = sum(part.value for part in parts)
        if total > length.value * (1 + 1e-9):
            raise UserError(
                f"LRTUNER: explore = {parts[0]} and exploit = {parts[1]} are more than the budget ({length}) together"
            )
    if parts[0].value == 0 and values["k0"] == 0:
        raise UserError("LRTUNER: explore = 0 ignores what is measured, so k0, the LR to train with, must be given")
    if values["draws"] != int(values["draws"]):
        raise UserError(f"LRTUNER: draws = {values['draws']} is not possible: a whole number from 2 on is needed")


@register_control(
    "LRTUNER",
    "LR = peak for `explore` of the budget (first linearly up to it within `warmup`), then linearly to 0 within "
    "`exploit`; the peak is `factor` times the LR at which the loss of fresh batches is lowest along the optimizer's "
    "own update, measured before the first step",
    "ours: docs/tuner.md",
    Parameter("k0", "LR where nothing can be measured; 0: that of a range test", default=0.0),
    Parameter("explore", "time at the peak; 0: what is measured is recorded, the LR is k0", "length", default="50%"),
    Parameter("exploit", "time of the way to 0", "length", low_open=True, default="50%"),
    Parameter("factor", "of the measured LR", low_open=True, default=0.7),
    Parameter("draws", "pairs of batches that are measured, at most", low=2.0, high=1000.0, default=32.0),
    Parameter("guard", "what divides the LR when training has gone wrong and goes back; 1: off", low=1.0, default=4.0),
    Parameter("l", "the budget", "length", low_open=True, default="100%"),
    Parameter("warmup", "time of the linear way up to the peak", "length", default="5%"),
    check=_check,
)
class Tuner(Controller):
    """Measures the peak, then follows a schedule; goes back to where it was best when the loss runs away."""

    probes = True

    def __init__(
        self,
        k0: float,
        explore: Length,
        exploit: Length,
        factor: float,
        draws: float,
        guard: float,
        l: Length,  # noqa: E741 (the parameter's name in the text form)
        warmup: Length,
    ) -> None:
        self.k0, self.explore, self.exploit, self.warmup = k0, explore.value, exploit.value, warmup.value
        self.factor, self.guard = factor, guard
        affordable = (COST * l.value - COARSE_STEPS) / DRAW_STEPS
        self.draws = int(max(2, min(draws, affordable)))
        self.looks = max(FEWEST, round(l.value / LOOKS)) if guard > 1 and self.explore > 0 else 0
        self.apart = math.ceil(l.value / SNAPSHOTS)
        # Losses: the first, the best, that of the confirmed snapshot, and that of one which waits for it.
        losses = {"first": 0.0, "best": 0.0, "good": 0.0, "waiting": None}
        super().__init__(peak=k0 or UNKNOWN, hold=self.explore, **losses, dead=False, kept=0, probes=[], returns=[])

    def begin(self, probing: Probing) -> None:
        fit = line_search(probing, min(FEWEST_DRAWS, self.draws), most=self.draws)
        source, measured = ("line", fit.lr) if fit.lr is not None else ("guess", fit.guess)
        peak = None if measured is None else self.factor * measured
        if peak is None and not self.k0:
            curve = sweep_curve(np.array(RANGE), probing.trial([*RANGE, 0.0], 0))
            source, peak = "range test", curve.suggestions.get("steepest")
        if peak is None:
            source, peak = "k0" if self.k0 else "default", self.k0 or UNKNOWN
        self.known["probes"].append({"step": 0, **fit.to_dict(), "source": source, "peak": peak})
        if self.explore > 0:
            self.known["peak"] = peak
            if fit.is_doubtful:
                self.known["hold"] = 0.0  # too high costs more than too low: it falls from the start
        self.known |= dict.fromkeys(("first", "best", "good"), fit.before)
        if self.looks:
            probing.keep()
            probing.confirm()

    def lr(self, step: int) -> float:
        if self.explore == 0:
            return self.k0
        end = self.explore + self.exploit
        hold = self.known["hold"]
        share = 1.0 if step < hold else max(0.0, (end - step) / (end - hold))
        return float(self.known["peak"] * share * min(1.0, (step + 1) / max(self.warmup, 1.0)))

    def observe(self, step: int, loss: float | None, probing: Probing) -> None:
        """Go back and divide the LR where the mean loss is not finite, far above the best that it was, or back where it
        began; and where the model answers all rows the same.

        The loss does not show what the last step did: a snapshot counts once the next look is good as well.
        """
        if loss is None:
            return
        now = self.known
        gone = now["dead"] or (0 < now["best"] < LEARNT * now["first"] and loss > CHANCE * now["first"])
        # Of losses below 0 too (densities): a share of the size of the best one above it.
        limit = now["best"] + (RISE - 1) * abs(now["best"]) + SHARE * abs(now["first"])
        if not math.isfinite(loss) or loss > limit or gone:
            probing.restore()
            now["returns"].append({"step": step, "loss": loss if math.isfinite(loss) else None, "lr": self.lr(step)})
            now |= {"peak": now["peak"] / self.guard, "best": now["good"], "waiting": None, "dead": False}
            return
        if now["waiting"] is not None:
            probing.confirm()
            now |= {"good": now["waiting"], "waiting": None}
        if loss < now["best"]:
            now["best"] = loss
            # A dead model's loss may be the best one so far, too.
            if step >= now["kept"] + self.apart and not CHANCE * now["first"] < loss <= now["first"]:
                probing.keep()
                now |= {"kept": step, "waiting": loss}

    def after_epoch(self, step: int, line: Mapping[str, Any]) -> None:
        self.known["dead"] = self.looks > 0 and CONSTANT in line

    def report(self) -> dict[str, Any]:
        return {"probes": self.known["probes"], "returns": self.known["returns"]}
