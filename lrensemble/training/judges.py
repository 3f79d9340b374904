"""Judges look at a run after every epoch and may stop it. They have names, so that they travel to any worker."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies.control import CONSTANT
from lrensemble.pool import Named, RunSpec
from lrensemble.pool.record import Training
from lrensemble.training.totals import Ended

History = Sequence[Mapping[str, Any]]
Judge = Callable[..., str | None]  # (spec, history, **parameters) -> why the run is stopped here, or None


def target(spec: RunSpec, history: History, *, accuracy: float) -> str | None:
    """At its target: all that was asked is when it gets there."""
    line, epochs = history[-1], spec.training.epochs
    if line["val_accuracy"] < accuracy:
        return None
    return (
        f"at its target: validation accuracy {line['val_accuracy']:.4f} reached {accuracy:g} "
        f"after {line['epoch']} of {epochs} epochs"
    )


def hopeless(spec: RunSpec, history: History, *, accuracy: float, after: float) -> str | None:
    """Below an accuracy that others have long passed, after a share of the budget."""
    line, epochs = history[-1], spec.training.epochs
    when = math.ceil(round(after * epochs, 6))  # 7 % of 100 epochs are 7.000000000000001
    if line["epoch"] != when or line["val_accuracy"] >= accuracy:
        return None
    return (
        f"hopeless: validation accuracy {line['val_accuracy']:.4f} after {line['epoch']} of {epochs} epochs is below "
        f"{accuracy:g}"
    )


def dead(spec: RunSpec, history: History) -> str | None:
    """Nothing more is learnt: a layer of spiking neurons has fallen silent, or fires at every step; or the model has
    answered every validation row the same two epochs in a row (units that are 0 for all rows have no gradient)."""
    line = history[-1]
    when = f"after epoch {line['epoch']} (LR {line['lr']:.3g})"
    if all(CONSTANT in one for one in history[-2:]) and len(history) > 1:
        return f"dead: the model answers every validation row the same {when}: try a lower LR"
    rates = {key.removeprefix("rate_"): value for key, value in line.items() if key.startswith("rate_")}
    stuck = [(name, rate) for name, rate in rates.items() if not SILENT < rate < 1 - SILENT]
    if not stuck:
        return None
    name, rate = stuck[0]
    return (
        f"dead: the neurons of {name} fire in {rate:.2%} of steps {when}: try a lower LR, or calibrated first weights"
    )


SILENT = 1e-5  # spikes a neuron and step
JUDGES: dict[str, Judge] = {"target": target, "hopeless": hopeless, "dead": dead}


def find_judge(name: str) -> Judge:
    """A judge in `JUDGES`, or a function ``package.module:function``."""
    module, colon, attribute = name.partition(":")
    if not colon:
        if name not in JUDGES:
            raise UserError(f"unknown judge {name!r}: {did_you_mean(name, JUDGES)} or package.module:function")
        return JUDGES[name]
    try:
        judge: Judge = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"judge {name}: it cannot be imported ({error})") from None
    return judge


def judges_of(training: Training) -> list[Named]:
    """The judges that a configuration itself asks for: ``training.until`` and ``training.stop``."""
    found = [Named(name="dead")]
    if training.until is not None:
        found.append(Named.model_validate({"name": "target", "accuracy": training.until}))
    if training.stop is not None:
        found.append(Named.model_validate({"name": "hopeless", **training.stop.model_dump()}))
    return found


def ask(judges: Iterable[Named], spec: RunSpec, history: History) -> None:
    """Raise `Ended` when one of them stops the run; after its last epoch nobody is asked."""
    if history[-1]["epoch"] >= spec.training.epochs:
        return
    for named in judges:
        if reason := find_judge(named.name)(spec, history, **named.parameters):
            raise Ended("stopped", reason)
