"""A checkpoint as a module with its weights, and what that predicts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lrensemble.adopt.beside import RunFacts
from lrensemble.adopt.files import Checkpoint
from lrensemble.adopt.names import fact
from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.models import build_model, hash_of_tensors, is_users_own
from lrensemble.models.checkpoints import Placed, listed, misfits, places, tensor_groups
from lrensemble.models.objects import OBJECTS
from lrensemble.own import calling, current_folder, load_own
from lrensemble.pool import Named

SHOWN = 10  # tensors named of each kind that do not fit
SUM = 1e-3  # how far sums of probabilities are from 1, also in half precision


@dataclass(frozen=True)
class Loaded:
    """A module with a checkpoint's weights.

    Attributes
    ----------
    model : how it is built again, without its weights
    weights : all but a frozen base that the builder gives
    base : hash of that, None where there is none
    others : tensors beside the weights, which are not the model's
    """

    network: nn.Module
    model: Named
    weights: dict[str, Tensor]
    base: str | None
    others: tuple[str, ...]


def load_checkpoint(
    checkpoint: Checkpoint, content: Any, model: Named, facts: Mapping[str, Any], run: RunFacts, part: str | None
) -> Loaded:
    """Build the model of a checkpoint and put its weights into it; `UserError` names what does not fit.

    A builder with a parameter ``checkpoint`` gets the path, and puts the weights in itself (transformers and peft have
    other names in their files than in their models).

    Parameters
    ----------
    content : what its files hold
    model : what the user named; parameters of its builder that it leaves open are the run's hyperparameters
    facts : the task's
    part : path in the file, or prefix of the names, where several fit
    """
    full = _parametrised(model, facts, run, checkpoint)
    network = _built(full, facts)
    own = network.state_dict()
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    # A file of an adapter has none of the base, which the builder gives: its parameters are frozen.
    frozen = own.keys() - trained if trained and len(trained) < len([*network.parameters()]) else set()
    if "checkpoint" in full.parameters:
        placed = Placed({name: own[name] for name in own.keys() - frozen}, "", ())
    else:
        placed = _the_place(checkpoint, own, tensor_groups(checkpoint.path, content), part, frozen, str(full))
        network.load_state_dict({**own, **placed.tensors})
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
    if "checkpoint" in full.parameters:
        again = _built(full, facts, seed=1).state_dict()
        if random := [name for name in sorted(placed.tensors) if not torch.equal(again[name], weights[name])]:
            raise UserError(
                f"{checkpoint.path}: the model {full} is another every time it is built ({', '.join(random[:SHOWN])}): "
                "a builder with a parameter checkpoint has to load the weights"
            )
    base = None
    if given := {
        name: weights[name] for name, p in network.named_parameters() if name in frozen - placed.tensors.keys()
    }:
        again = _built(full, facts, seed=1).state_dict()
        if any(not torch.equal(again[name], value) for name, value in given.items()):
            raise UserError(
                f"{checkpoint.path} holds an adapter, and the model {full} has another base every time it is built: "
                "let its builder load the base's weights"
            )
        base, kept = hash_of_tensors(given), given.keys()
        weights = {name: value for name, value in weights.items() if name not in kept}
    return Loaded(network.eval(), full, weights, base, placed.others)


def _parametrised(model: Named, facts: Mapping[str, Any], run: RunFacts, checkpoint: Checkpoint) -> Named:
    """The model with the hyperparameters of the run that its builder has parameters for; ``checkpoint`` is the path."""
    if not is_users_own(model.name):
        return model
    with current_folder():
        try:
            known = inspect.signature(OBJECTS.get(model.name) or load_own(model.name)).parameters.values()
        except (ValueError, TypeError):  # a callable without a signature
            return model
    found = dict(model.parameters)
    for parameter in known:
        name, is_many = parameter.name, parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if name in found or name in facts or name == "name" or is_many:  # name is that of the model
            continue
        value = str(checkpoint.path.absolute()) if name == "checkpoint" else fact(run.facts, name)
        if value is not None:
            found[name] = value
    return Named.model_validate({"name": model.name, **found})


def _built(model: Named, facts: Mapping[str, Any], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(**model.build, **facts, trust=True)


def _the_place(
    checkpoint: Checkpoint, own: Mapping[str, Tensor], groups: Any, part: str | None, optional: set[str], model: str
) -> Placed:
    """Where in the file the model's weights are."""
    found = places(own, groups, optional)
    if part is not None:
        wanted = [one for one in found if one.part.strip(".") == part.strip(".")]
        if not wanted:
            known = ", ".join(sorted(one.part.strip(".") or "(the file itself)" for one in found))
            raise UserError(f"{checkpoint.path}: no weights of the model {model} in {part!r}, but in: {known}")
        found = wanted
    first = found[0]
    if wrong := misfits(own, first, optional):
        raise UserError(
            f"{checkpoint.path} does not fit the model {model} ({listed(wrong, own, first.tensors, SHOWN)})"
        )
    if other := next((one for one in found[1:] if not _equal(one.tensors, first.tensors)), None):
        names = [one.part.strip(".") or "(the file itself)" for one in (first, other)]
        raise UserError(
            f"{checkpoint.path}: the weights of the model are there twice, as {names[0]} and as {names[1]}: "
            f"--part {names[1]} (or the other) says which"
        )
    return first


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def predictions(
    network: nn.Module, scores: Callable[[nn.Module, str], Tensor], checkpoint: Checkpoint
) -> dict[str, Array]:
    """Probabilities (N, C) of both splits; `scores` gives (N, C) of a split."""
    found = {}
    for split in ("val", "test"):
        with calling(f"{checkpoint.path}: its model, given the rows of {split},"):
            given = scores(network, split)
        if not isinstance(given, Tensor) or given.ndim != 2:
            shape = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
            raise UserError(f"{checkpoint.path}: its model gives {shape}, one score (N, C) a class is needed")
        if given.shape[1] > 1 and bool((given >= 0).all() & ((given.float().sum(1) - 1).abs() < SUM).all()):
            raise UserError(
                f"{checkpoint.path}: its model gives probabilities, scores are needed: leave its softmax out, or give "
                "their logarithms"
            )
        found[split] = given.float().softmax(1).cpu().numpy()
    return found
