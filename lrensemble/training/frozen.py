"""What training does not change: a frozen base, which a member does not save when its builder gives it every time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lrensemble.models import build_model, hash_of_tensors
from lrensemble.models.objects import OBJECTS
from lrensemble.pool import Named, RunSpec
from lrensemble.pool.record import Training
from lrensemble.tasks import Task
from lrensemble.training.groups import freeze
from lrensemble.training.seeds import seed_everything

_bases: dict[tuple[str, str], str] = {}  # of a model and a task, as they are built from another seed


def trainable_model(spec: RunSpec, facts: Mapping[str, Any], **options: Any) -> nn.Module:
    """A member's model as its training begins: built, with its frozen parameters; `options` as in `build_model`."""
    model = build_model(**spec.model.build, **facts, **options)
    freeze(model, spec.training.freeze)
    return model


def frozen(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that training cannot change, by name."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if not parameter.requires_grad}


def trained_names(model: nn.Module) -> set[str]:
    """Names in the state of what training can change: all but frozen parameters, whatever else these are called."""
    kept = {name for name, value in model.named_parameters(remove_duplicate=False) if not value.requires_grad}
    return model.state_dict().keys() - kept


def known_base(spec: RunSpec, task: Task, model: nn.Module) -> str | None:
    """Hash of the frozen parameters of `model`, where they are the same from every seed.

    None where there are none, or where they are random: then a member has to save them. The model is built once more
    to see that, once a process.
    """
    kept = frozen(model)
    if not kept or spec.model.name in OBJECTS:  # an object of this program is built nowhere else
        return None
    key = same_model(spec), task.fingerprint
    if key not in _bases:
        with torch.random.fork_rng(devices=[]):
            seed_everything("base")
            _bases[key] = hash_of_tensors(frozen(trainable_model(spec, task.facts, trust=True)))
    found = hash_of_tensors(kept)
    return found if found == _bases[key] else None


def same_model(spec: RunSpec) -> str:
    """As JSON, equal for runs of one architecture with the same parameters to train."""
    training = Training(epochs=1, freeze=spec.training.freeze)
    plain = {"training": training, "optimizer": Named(name="SGD"), "policy": "FIX(k0=1)", "seed": 0, "notes": {}}
    return spec.model_copy(update=plain).model_dump_json()
