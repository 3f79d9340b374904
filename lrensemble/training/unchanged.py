"""Training steps that are taken back: model, optimizer, loader and random state as they were, to the bit."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader

from lrensemble.errors import UserError

Undo = Callable[[], object]
PLAIN = (bool, int, float, str, tuple, type(None))


@contextlib.contextmanager
def unchanged(*objects: Any, randomness: bool = True) -> Iterator[None]:
    """Put back, however the block ends, what training steps in it change in objects, and the random states.

    Parameters
    ----------
    *objects : nn.Module, Optimizer, DataLoader, torch.Generator, or anything with ``state_dict``
        Of modules: parameters, gradients, buffers (also those that are not saved), modes, and attributes that are
        numbers, texts or tensors. Of loaders: their generators, and the states of loader, sampler and dataset where
        they have one. They are the same tensors afterwards: whoever holds them sees no difference.
    randomness : also the global random states of torch, NumPy and Python.

    Raises
    ------
    UserError
        A model with lazy layers before its first batch; an object without a state.
    """
    seen: set[int] = set()  # tensors
    undo = [*(_of_random_states() if randomness else ()), *(step for thing in objects for step in _of(thing, seen))]
    try:
        yield
    finally:
        for put_back in undo:
            put_back()


def _of(thing: Any, seen: set[int]) -> list[Undo]:
    if isinstance(thing, nn.Module):
        return [undo for module in thing.modules() for undo in _of_module(module, seen)]
    if isinstance(thing, torch.optim.Optimizer):
        return _of_optimizer(thing, seen)
    if isinstance(thing, torch.Generator):
        return [partial(thing.set_state, thing.get_state())]
    if isinstance(thing, DataLoader):
        parts = [thing, thing.sampler, thing.batch_sampler, thing.dataset]
        held = [getattr(part, "generator", None) for part in parts] + [part for part in parts if _has_state(part)]
        return [
            undo for one in held if one is not None for undo in (_of_state(one) if one in parts else _of(one, seen))
        ]
    if not _has_state(thing):
        raise UserError(f"a {type(thing).__name__} cannot be put back afterwards: it has no state_dict")
    return _of_state(thing)


def _has_state(thing: Any) -> bool:
    return hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict")


def _of_state(thing: Any) -> list[Undo]:
    return [partial(thing.load_state_dict, copy.deepcopy(thing.state_dict()))]


def _of_tensors(values: Any, seen: set[int]) -> Iterator[Undo]:
    for tensor in values:
        if not isinstance(tensor, Tensor) or id(tensor) in seen:
            continue
        if is_lazy(tensor):
            raise UserError("the model has lazy layers without weights: give it one batch before the test")
        seen.add(id(tensor))
        yield partial(_put_back, tensor, tensor.detach().clone(), tensor.grad if tensor.is_leaf else None)
        if tensor.is_leaf and tensor.grad is not None:
            yield from _of_tensors([tensor.grad], seen)


@torch.no_grad()
def _put_back(tensor: Tensor, value: Tensor, grad: Tensor | None) -> None:
    tensor.copy_(value)
    if tensor.is_leaf:
        tensor.grad = grad


def _of_module(module: nn.Module, seen: set[int]) -> list[Undo]:
    tables: list[dict[str, Any]] = [module._parameters, module._buffers]
    names = set(vars(module))
    plain = {name: value for name, value in vars(module).items() if isinstance(value, (*PLAIN, Tensor))}

    def attributes() -> None:
        for name in set(vars(module)) - names:
            del vars(module)[name]
        vars(module).update(plain)

    undo = [partial(_refill, table, dict(table)) for table in tables]
    tensors = [tensor for values in (plain, *tables) for tensor in values.values()]
    return [attributes, *undo, *_of_tensors(tensors, seen)]


def _refill(table: dict[Any, Any], held: dict[Any, Any]) -> None:
    table.clear()
    table.update(held)


def _of_optimizer(optimizer: torch.optim.Optimizer, seen: set[int]) -> list[Undo]:
    groups: list[dict[str, Any]] = list(optimizer.param_groups)
    tensors = [tensor for group in groups for value in (group.values(), group["params"]) for tensor in value]
    # Not load_state_dict: it would give moments the type of their parameters.
    state = {key: copy.deepcopy(value) for key, value in optimizer.state.items()}
    return [
        partial(_refill, vars(optimizer), dict(vars(optimizer))),
        partial(_refill, optimizer.state, state),
        partial(optimizer.param_groups.__setitem__, slice(None), groups),
        *(partial(_refill, group, dict(group)) for group in groups),
        *_of_tensors(tensors, seen),
    ]


def _of_random_states() -> list[Undo]:
    undo: list[Undo] = [
        partial(torch.set_rng_state, torch.get_rng_state()),
        partial(np.random.set_state, np.random.get_state()),  # noqa: NPY002 (users' models may draw from it)
        partial(random.setstate, random.getstate()),
    ]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        undo.append(partial(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    if torch.backends.mps.is_available():
        undo.append(partial(torch.mps.set_rng_state, torch.mps.get_rng_state()))
    return undo
