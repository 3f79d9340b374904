"""Models that a Python program gives as objects: by a name that a worker can import, else for this process alone."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

from torch import nn

from lrensemble.errors import UserError
from lrensemble.models.libraries import LIBRARIES
from lrensemble.own import import_name

OBJECTS: dict[str, Callable[..., nn.Module]] = {}  # given by this program, by their names


def is_users_own(name: str) -> bool:
    """True for ``package.module:callable``, and for an object of this program."""
    source, colon, _ = name.partition(":")
    return (bool(colon) and source not in LIBRARIES) or name in OBJECTS


def name_of(model: Any) -> str:
    """The name of a model given as a class, a function or a module, so that `build_model` knows it.

    A class or function that can be imported is ``package.module:name``, as in a configuration. Any other is known to
    this process alone. All members start from the weights of a module; its name has their hash.
    """
    if isinstance(model, nn.Module):
        digest = hashlib.sha256(repr(model).encode())
        for key, value in model.state_dict().items():
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        name = f"{type(model).__name__}-{digest.hexdigest()[:8]}"
        kept = copy.deepcopy(model)
        OBJECTS[name] = lambda: copy.deepcopy(kept)
        return name
    if not callable(model):
        raise UserError(f"model {model!r}: a class, a function or a torch.nn.Module is needed")
    if known := import_name(model):
        return known
    name = getattr(model, "__qualname__", type(model).__name__)
    OBJECTS[name] = model
    return str(name)
