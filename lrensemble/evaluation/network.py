"""From a pool back to what made it: a member as a module that takes raw images, and the pool's data set."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrensemble.errors import UserError
from lrensemble.models import build_model, hash_of_tensors
from lrensemble.models.adapters import souped
from lrensemble.own import is_own, untrusted
from lrensemble.pool import Member, MemberSpec, Named, Pool
from lrensemble.tasks import SOURCES, Batch, Task, load_task
from lrensemble.tasks.events import EventTask
from lrensemble.tasks.inputs import Normalise
from lrensemble.tasks.load import is_known
from lrensemble.tasks.rows import raw_batches
from lrensemble.tasks.sources import check_local


class Network(nn.Module):
    """A member with all that makes scores of raw rows: (B, *shape) in the data's own unit -> logits (B, classes).

    Attributes
    ----------
    model : a module
    inputs : from raw rows to what the task's scores are made of
    scores : of the model and these, by the task
    shape : of one raw row
    is_plain : the scores are the model's of normalised rows, and nothing is the task's own
    """

    def __init__(
        self, model: nn.Module, inputs: nn.Module, shape: tuple[int, ...], scores: Scores | None = None
    ) -> None:
        super().__init__()
        self.model, self.inputs, self.shape = model, inputs, shape
        self.is_plain, self.scores = scores is None, scores or _of_model

    def forward(self, rows: Tensor) -> Tensor:
        return self.scores(self.model, self.inputs(rows)).float()


Scores = Callable[[nn.Module, Tensor], Tensor]


def _of_model(model: nn.Module, x: Tensor) -> Tensor:
    scores: Tensor = model(x)
    return scores


def rows_by_rounding(task: Task, rows: int) -> int:
    """How many of `rows` may have other predictions by the same network: of recordings 1 %, and one at least.

    By rounding, a spiking neuron at its threshold fires or does not, and any row can have one.
    """
    return max(1, rows // 100) if isinstance(task, EventTask) else 0


def load_network(pool: Pool, member: Member, *, trust: bool = False, task: Task | None = None) -> Network:
    """A member of `pool` with its weights, in eval mode, on the CPU; it takes rows as the data set has them.

    ``load_network(pool, member)(rows).softmax(1)`` are the member's stored predictions, up to rounding.

    Parameters
    ----------
    trust : a model or task ``package.module:callable`` that the record or the pool names may be imported and called
    task : the pool's, where it is loaded already; it is needed where methods of its own make scores of a row

    Raises
    ------
    UserError
        It has no weights (imported, deleted by gc, not complete), it was trained by other code than lrensemble's (how
        to build its model is not known), its model is not trusted, cannot be built or does not fit the weights; the
        task is needed and not at hand, or its rows are several arrays.
    """
    header = pool.task
    facts: Mapping[str, Any] = {"input_shape": header.input_shape, "num_classes": len(header.class_names)}
    scores, shape = None, header.input_shape
    if header.normalisation:
        inputs: nn.Module = Normalise(**header.normalisation, shape=shape)
    elif header.data["name"] in SOURCES:
        raise UserError(f"{pool.path}: what its models take is not known here: its pool.json has no normalisation")
    else:
        task = task or load_data(pool, trust=trust)
        key, facts, shape = row_key(task), task.facts, row_shape(task)
        inputs = (task.inputs() if key == "x" else None) or nn.Identity()
        scores = functools.partial(_of_task, task, key)
    return Network(load_model(member, facts, trust=trust), inputs, shape, scores).eval()


def model_of(spec: MemberSpec) -> Named:
    """The model of a member as it is built: of a soup of adapters with the rank of all of them."""
    if spec.derived is None or spec.derived.name != "soup":
        return spec.model
    parameters = souped(spec.model.parameters, spec.derived.parameters["size"])
    return Named.model_validate({"name": spec.model.name, **parameters})


def load_model(member: Member, facts: Mapping[str, Any], *, trust: bool = False) -> nn.Module:
    """The model of a member with its weights, in eval mode, on the CPU, for a task with these `facts`.

    Raises
    ------
    UserError
        As `load_network`.
    """
    record = member.record
    if not record.spec.is_ours:
        made = "was imported as predictions" if record.spec.source == "import" else "was trained in a loop of your own"
        raise UserError(f"member {member.id} ({record.spec.label}) {made}: how to build its model is not known here")
    weights = member.weights()
    with torch.random.fork_rng(devices=[]):  # the random weights of the builder, thrown away below
        model = build_model(
            **model_of(record.spec).build,
            **facts,
            trust=trust,
            weight_bytes=sum(value.nbytes for value in weights.values()),
            pretrained=record.base is not None,
        )
    if record.base is not None:
        every = {name: value for name, value in model.named_parameters(remove_duplicate=False) if name not in weights}
        base = {name: value for name, value in model.named_parameters() if name in every}  # tied ones once
        if hash_of_tensors(base) != record.base:
            raise UserError(
                f"member {member.id}: the frozen parameters of the model {record.spec.model} are not those that it was "
                "trained with: what builds them has changed since"
            )
        weights = {**weights, **every}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # the code of a user's model has changed since, or that of a library
        reason = str(error).splitlines()[-1].strip()
        raise UserError(
            f"member {member.id}: its weights do not fit the model {record.spec.model} as it is built now ({reason})"
        ) from None
    return model.eval()


def _of_task(task: Task, key: str, model: nn.Module, x: Tensor) -> Tensor:
    return task.scores(model, {key: x})


def row_key(task: Task) -> str:
    """The name of the array that the rows of a task are; `UserError` where they are several."""
    keys = [key for key in _first_row(task) if key != "y"]
    if len(keys) != 1:
        raise UserError(f"a row of this task is {' and '.join(keys)}: a team that predicts takes one array")
    return keys[0]


def row_shape(task: Task) -> tuple[int, ...]:
    """Of one raw row of that array."""
    return tuple(_first_row(task)[row_key(task)].shape[1:])


def _first_row(task: Task) -> Batch:
    row: Batch = raw_batches(task, "val")[np.arange(1)]
    return row


def load_data(pool: Pool, *, trust: bool = False) -> Task:
    """The task that the pool's members were trained for, checked by its fingerprint.

    Parameters
    ----------
    trust : a task ``package.module:Class`` that the pool names may be imported and made

    Raises
    ------
    UserError
        It is not at hand (the reason is named), or no longer what it was.
    """
    header = pool.task
    name, root = header.data["name"], header.data.get("root")
    if is_own(name) and not trust:
        raise untrusted(name, "task")
    if not is_known(name) or (name in SOURCES and not header.input_shape):
        raise UserError(f"{pool.path}: its data are not known here (imports, loops of your own, a program's objects)")
    check_local(header.data, pool.path)
    # A pool may be a stranger's: it names what is read (and checked), and nothing is fetched or made for it.
    options = {**header.data, "root": Path(root) if root else None, "download": False}
    task = load_task(**options)
    if task.fingerprint != header.data_fingerprint:
        raise UserError(
            f"the data {root or name} are not those of {pool.path} any more (fingerprint "
            f"{task.fingerprint[:8]}, the pool's is {header.data_fingerprint[:8]})"
        )
    return task
