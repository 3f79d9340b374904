"""From a pool back to what made it: a member as a module that takes raw images, and the pool's data set."""

from __future__ import annotations

import inspect

import torch
from pydantic import ValidationError, validate_call
from torch import Tensor, nn

from lrensemble.errors import UserError
from lrensemble.models import build_model, hash_of_tensors
from lrensemble.pool import Member, Pool
from lrensemble.tasks import Dataset, load_dataset
from lrensemble.tasks.inputs import Normalise
from lrensemble.tasks.sources import check_local


class Network(nn.Module):
    """A member with its normalisation: raw images (B, C, H, W) in the data set's own unit -> logits (B, classes)."""

    def __init__(self, model: nn.Module, inputs: nn.Module) -> None:
        super().__init__()
        self.model, self.inputs = model, inputs

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(self.inputs(images))
        return logits.float()


def load_inputs(pool: Pool) -> nn.Module:
    """From raw rows of a pool's task to what its models take, as its header has it; `UserError` where it has not."""
    if not pool.task.normalisation:
        raise UserError(f"{pool.path}: what its models take is not known here: its pool.json has no normalisation")
    return Normalise(**pool.task.normalisation, shape=pool.task.input_shape)


def load_network(pool: Pool, member: Member, *, trust: bool = False) -> Network:
    """A member of `pool` with its weights, in eval mode, on the CPU; it takes images as the data set has them.

    ``load_network(pool, member)(images).softmax(1)`` are the member's stored predictions, up to rounding.

    Parameters
    ----------
    trust : a model ``package.module:callable`` that the record names may be imported and called

    Raises
    ------
    UserError
        It has no weights (imported, deleted by gc, not complete), it was trained by other code than lrensemble's (how
        to build its model is not known), its model is not trusted, cannot be built or does not fit the weights.
    """
    record, task = member.record, pool.task
    if record.spec.source != "training":
        made = "was imported as predictions" if record.spec.source == "import" else "was trained in a loop of your own"
        raise UserError(f"member {member.id} ({record.spec.label}) {made}: how to build its model is not known here")
    weights = member.weights()
    with torch.random.fork_rng(devices=[]):  # the random weights of the builder, thrown away below
        model = build_model(
            **record.spec.model.build,
            input_shape=task.input_shape,
            num_classes=len(task.class_names),
            trust=trust,
            weight_bytes=sum(value.nbytes for value in weights.values()),
            pretrained=record.base is not None,
        )
    if record.base is not None:
        base = {name: value for name, value in model.named_parameters() if name not in weights}
        if hash_of_tensors(base) != record.base:
            raise UserError(
                f"member {member.id}: the frozen parameters of the model {record.spec.model} are not those that it was "
                "trained with: what builds them has changed since"
            )
        weights = {**weights, **base}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # the code of a user's model has changed since, or that of a library
        reason = str(error).splitlines()[-1].strip()
        raise UserError(
            f"member {member.id}: its weights do not fit the model {record.spec.model} as it is built now ({reason})"
        ) from None
    return Network(model, load_inputs(pool)).eval()


def load_data(pool: Pool) -> Dataset:
    """The data set that the pool's members were trained on, checked by its fingerprint.

    Raises
    ------
    UserError
        It is not at hand (the reason is named), or no longer what it was.
    """
    task = pool.task
    if not task.input_shape or not set(task.data) <= set(inspect.signature(load_dataset).parameters):
        raise UserError(f"{pool.path}: its data are not known here (a pool of imports or loops of your own)")
    root = task.data.get("root")
    check_local(task.data, pool.path)
    # A pool may be a stranger's: it names what is read (and checked), and nothing is fetched or made for it.
    try:
        data = validate_call(load_dataset)(**{**task.data, "download": False})
    except ValidationError as error:
        option = error.errors()[0]["loc"][0]
        raise UserError(f"{pool.path}: its data are not known here ({option} in pool.json)") from None
    if data.fingerprint != task.data_fingerprint:
        raise UserError(
            f"the data {root or task.data['name']} are not those of {pool.path} any more (fingerprint "
            f"{data.fingerprint[:8]}, the pool's is {task.data_fingerprint[:8]})"
        )
    return data
