"""Weight-averaged soups: one network from members that share an initialisation, where validation agrees.

Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time", section 2: the uniform soup averages all ingredients, the greedy soup goes through them from the best
to the worst and keeps one if the average does not get worse on validation. Networks that began elsewhere lie in other
basins, and their average is no network that anybody wants: hence groups of one start. Adapters are averaged as the
updates that they stand for (`models.adapters.souped`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lrensemble.errors import UserError
from lrensemble.evaluation.network import load_data, load_model
from lrensemble.metrics import correct_rows, nll_rows
from lrensemble.models import build_model
from lrensemble.models.adapters import joined, souped
from lrensemble.pool import Member, MemberSpec, Named, Pool
from lrensemble.pool.writing import environment, write_complete
from lrensemble.renamed import renamed
from lrensemble.tasks import Task
from lrensemble.tasks.rows import AnyRows, DeviceData, must_stream
from lrensemble.training.cached import with_lower
from lrensemble.training.derived import refresh_norms
from lrensemble.training.device import pick_devices

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Soup:
    """An average of some members (of one: that member), and its scores on the validation split.

    Attributes
    ----------
    ingredients : ids, from the best to the worst on validation
    nll, nll_se, accuracy, accuracy_se : means over the rows and their standard errors
    """

    ingredients: tuple[str, ...]
    nll: float
    nll_se: float
    accuracy: float
    accuracy_se: float


@dataclass(frozen=True)
class Soups:
    """What became of one group of members that share an initialisation.

    Attributes
    ----------
    label : what they share: model and seed, or a run's policy and seed
    tried : ids of the group, from the best to the worst on validation (NLL)
    best, uniform, greedy : the best ingredient alone, the average of all, and the greedy choice; where nothing may be
        added, `greedy` is `best`
    written : id of the member that the better of the two soups is now; None: neither holds up
    new : it was not in the pool before
    """

    label: str
    tried: tuple[str, ...]
    best: Soup
    uniform: Soup
    greedy: Soup
    rows: int
    written: str | None
    new: bool


def groups(pool: Pool) -> list[list[Member]]:
    """Members that share an initialisation, two or more each: the best on validation (NLL) first.

    Of one start are a run, its snapshots and averages, and all runs of one model and seed under
    ``training.shared_init``. Soups are no ingredients.

    Raises
    ------
    UserError
        There is no such group.
    """
    found: dict[str, list[Member]] = {}
    for member in pool.usable("val"):
        spec = member.record.spec
        if spec.source == "training" and not (spec.derived and spec.derived.name == "soup"):
            found.setdefault(spec.start(member.record.parent or member.id), []).append(member)
    several = [sorted(group, key=lambda m: (_nll(m), m.id)) for group in found.values() if len(group) > 1]
    if not several:
        raise UserError(
            f"{pool.path} has no two members that share an initialisation, and the average of others is no usable "
            "network: train with training.shared_init=true, or with snapshots=cycles or averages=[swa, ema]"
        )
    return sorted(several, key=lambda group: group[0].id)


@renamed(say="tell")
def make_soups(
    pool: Pool, *, device: str = "auto", trust: bool = False, tell: Callable[[str], object] = lambda text: None
) -> list[Soups]:
    """Try the uniform and the greedy soup of every group of `groups`, and write the better one where it holds up.

    It holds up if its validation NLL is not above that of the best ingredient. It is then a member like any other,
    with weights and predictions, that names its ingredients. The test split decides nothing. The same call again
    finds the same members.

    Parameters
    ----------
    trust : as in `load_model`

    Raises
    ------
    UserError
        No group, members whose weights are gone, data that are not at hand.
    """
    candidates = groups(pool)
    for group in candidates:  # before the work begins
        for member in group:
            member.check_file("weights.safetensors")
    task, where = load_data(pool, trust=trust), pick_devices(device)[0]
    data = DeviceData.of(task, where, stream=must_stream(task, where, 1))
    return [_of_group(pool, group, data, trust, tell) for group in candidates]


def _of_group(
    pool: Pool, group: Sequence[Member], data: DeviceData, trust: bool, tell: Callable[[str], object]
) -> Soups:
    labels = pool.labels("val")
    best = _score(group[:1], np.asarray(pool.predictions("val", group[:1])[0]), labels)
    model = load_model(group[0], data.task.facts, trust=trust).to(data.device)
    data = with_lower(data, model, group[0].record.base)
    training = group[0].record.spec.training
    assert training is not None  # our trainer's members have one
    batch_size = min(training.batch_size, len(data.train))

    def brew(total: Weights, members: Sequence[Member]) -> Soup:
        mixed = _souped(model, total, members, data, batch_size)
        return _score(members, _predict(mixed, data, data.val), labels)

    everything = total = _weights(pool, group[0], trust, data.task)
    chosen, greedy = [group[0]], best
    for i, member in enumerate(group[1:], start=2):
        tell(f"{i} of {len(group)} members of {group[0].record.spec.model}, {len(chosen)} in the greedy soup")
        weights = _weights(pool, member, trust, data.task)
        everything, added = _sum(everything, weights), _sum(total, weights)
        soup = brew(added, [*chosen, member])
        if soup.nll <= greedy.nll:
            chosen, greedy, total = [*chosen, member], soup, added
    uniform = brew(everything, group)
    written, new = None, False
    # Not a number holds up against nothing.
    holding = [soup for soup in (greedy, uniform) if len(soup.ingredients) > 1 and soup.nll <= best.nll]
    if holding:
        soup = min(holding, key=lambda soup: soup.nll)
        members = chosen if soup is greedy else list(group)
        mixed = _souped(model, total if soup is greedy else everything, members, data, batch_size)
        written, new = _write(pool, members, mixed, data)
    return Soups(
        label=_label(group[0].record.spec),
        tried=tuple(member.id for member in group),
        best=best,
        uniform=uniform,
        greedy=greedy,
        rows=len(labels),
        written=written,
        new=new,
    )


def _label(spec: MemberSpec) -> str:
    shared = spec.training is not None and spec.training.shared_init
    return f"{spec.model if shared else spec.run.label} seed {spec.seed}"


def _nll(member: Member) -> float:
    value = member.record.metrics["val"]["nll"]
    return float("inf") if value is None else value


# Weights


def _weights(pool: Pool, member: Member, trust: bool, task: Task) -> Weights:
    """In float64: a sum of many does not round, whatever their order."""
    state = load_model(member, task.facts, trust=trust).state_dict()  # checked that they fit the model
    return {name: value.double() if value.is_floating_point() else value for name, value in state.items()}


def _sum(total: Weights, weights: Weights) -> Weights:
    """Counters (whole numbers) stay those of the first."""
    return {
        name: joined(name, value, weights[name]) if value.is_floating_point() else value
        for name, value in total.items()
    }


def _souped(
    model: nn.Module, total: Weights, members: Sequence[Member], data: DeviceData, batch_size: int
) -> nn.Module:
    """The mean as a network: `model` with other weights, or where adapters add their ranks, another one."""
    named, count = members[0].record.spec.model, len(members)
    mean = {
        name: value / count if value.is_floating_point() and ".lora_A." not in name else value
        for name, value in total.items()
    }
    if (parameters := souped(named.parameters, count)) != named.parameters:
        with torch.random.fork_rng(devices=[]):
            model = build_model(named.name, parameters=parameters, **data.task.facts).to(data.device)
    model.load_state_dict(mean)  # rounds to the model's own precision
    refresh_norms(model, data, batch_size)
    return model


def _predict(model: nn.Module, data: DeviceData, rows: AnyRows) -> NDArray[np.float32]:
    """Probabilities (N, C)."""
    return np.asarray(data.scores(model, rows).float().softmax(1).cpu().numpy())


def _score(members: Sequence[Member], probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Soup:
    nll, right = nll_rows(probabilities, labels), correct_rows(probabilities, labels)
    root = np.sqrt(len(labels))
    return Soup(
        ingredients=tuple(member.id for member in members),
        nll=float(nll.mean()),
        nll_se=float(nll.std() / root),
        accuracy=float(right.mean()),
        accuracy_se=float(right.std() / root),
    )


# Writing


def _spec(members: Sequence[Member]) -> MemberSpec:
    """The spec of the best ingredient's run, with what the soup is made of."""
    run = members[0].record.spec.run
    made_of = {
        "ingredients": sorted(member.id for member in members),
        "runs": sorted({member.record.parent or member.id for member in members}),
    }
    derived = Named.model_validate({"name": "soup", "size": len(members)})
    return run.model_copy(update={"derived": derived, "notes": {**run.notes, "soup": made_of}})


def _write(pool: Pool, members: Sequence[Member], model: nn.Module, data: DeviceData) -> tuple[str, bool]:
    """Id of the soup as a member of the pool, and whether it is new."""
    [planned] = pool.plan([_spec(members)])
    with planned.hold():
        member = Member(planned.path)  # as it is now that nobody else writes it
        if member.record.status == "complete":
            return member.id, False
        costs, bases = members[0].record.costs, {one.record.base for one in members}
        base = bases.pop() if len(bases) == 1 else None  # one that all have is not changed by averaging
        kept = members[0].weights().keys() if base else model.state_dict().keys()
        write_complete(
            member,
            labels=pool.labels("val"),
            history=[],
            probabilities={"val": _predict(model, data, data.val), "test": _predict(model, data, data.test)},
            weights={
                name: value.detach().cpu().clone().contiguous()
                for name, value in model.state_dict().items()
                if name in kept
            },
            base=base,
            costs={key: costs[key] for key in ("parameters", "flops") if key in costs},  # of use; training cost none
            environment=environment(device=str(data.device)),
        )
    return member.id, True
