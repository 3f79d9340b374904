"""From a name and parameters to a module."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from lrensemble.errors import UserError, did_you_mean, first_line
from lrensemble.model_folder import find_folder, weights_bytes
from lrensemble.models.caffe import cnn3, lenet
from lrensemble.models.fastcnn import fastcnn
from lrensemble.models.hf import hf
from lrensemble.models.libraries import LIBRARIES, GreyToRGB
from lrensemble.models.memory import MemoryLimit
from lrensemble.models.mlp import mlp
from lrensemble.models.objects import OBJECTS, is_users_own
from lrensemble.models.pretrained import FOLDERS, KEYS, identified, read_weights, start_from, weights_file
from lrensemble.models.resnet import resnet, wide_resnet
from lrensemble.models.spiking import carsnn, event_resnet
from lrensemble.own import calling, current_folder, load_own, untrusted
from lrensemble.plugins import Registry

_OURS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "lenet": lenet,
    "cnn3": cnn3,
    "resnet20": functools.partial(resnet, depth=20),
    "resnet32": functools.partial(resnet, depth=32),
    "resnet56": functools.partial(resnet, depth=56),
    "wrn16_4": functools.partial(wide_resnet, depth=16, width=4),
    "wrn28_10": functools.partial(wide_resnet, depth=28, width=10),
    "fastcnn": fastcnn,
    "carsnn": carsnn,
    "event_resnet": event_resnet,
    "hf": hf,
}
MODELS: Registry[Callable[..., nn.Module]] = Registry("models", "model", _OURS)
register_model = MODELS.register
SPARE = 2**29  # bytes that building may take beside three times the weights: tables, trial passes, draws


def build_model(
    name: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    trust: bool = False,
    weight_bytes: int | None = None,
    pretrained: bool = True,
    tell: Callable[[str], object] = lambda text: None,
    **facts: Any,
) -> nn.Module:
    """Build a module that maps (B, *input_shape) to (B, num_classes) logits.

    Parameters
    ----------
    name : str
        A name in `MODELS` or of an installed package (entry point ``lrensemble.models``); ``torchvision:NAME`` or
        ``timm:NAME`` for any classifier of these libraries; or ``package.module:callable``. What it names is called
        with the `facts` and `parameters` as keywords; a callable of the user's own with those of the facts that it has
        parameters for.
    parameters : dict
        Of the builder. Beside them, but for a user's own, ``weights``: a file, or DEFAULT for what torchvision and timm
        have in their caches; and ``weights_hash`` (see `pretrained.identified`). Without, the weights are random.
    facts
        Of the task: ``input_shape``, of images (channels, height, width); ``num_classes``; ...
    trust : bool
        The name was given by the user: ``package.module:callable`` may be imported and called.
    weight_bytes : int, optional
        Size of the weights that the model is built for: one of many times that size is refused before it takes the
        memory. Without it, and for ``package.module:callable``, there is no limit.
    pretrained : bool
        False: ``weights`` are left aside, because others will be loaded; their file need not be there.
    tell : callable
        Is told where the head is of other classes than that of ``weights``, and starts at random.

    Raises
    ------
    UserError
        Unknown name or parameter (with the nearest ones), a callable that cannot be imported or is not trusted, a
        library that is not installed, or a model that does not exist for images of this shape.
    """
    own = is_users_own(name)
    if own and not trust and name not in OBJECTS:
        raise untrusted(name)
    parameters = dict(parameters or {})
    loads = name in FOLDERS  # its weights itself
    weights = None if own or loads else _weights(name, parameters)
    if fixed := set(facts) & set(parameters):
        raise UserError(f"model {name!r}: {min(fixed)} is given by the data, and no parameter")
    with contextlib.ExitStack() as stack:
        if own:
            stack.enter_context(current_folder())  # a user's my_models.py beside the config
        elif weight_bytes is not None:
            if loads:
                weight_bytes += weights_bytes(find_folder(parameters.get("weights", ""), f"model {name}: weights"))
            elif weights and pretrained:
                weight_bytes += weights_file(name, weights[0]).stat().st_size
            reason = (
                f"{_shown(name, parameters)} needs far more memory than its weights, {weight_bytes:,} bytes: not built"
            )
            stack.enter_context(MemoryLimit(3 * weight_bytes + SPARE, reason))
        grey = weights is not None and ":" in name and facts.get("input_shape", ())[:1] == (1,)
        built = {**facts, "input_shape": (3, *facts["input_shape"][1:])} if grey else facts
        model = _build(name, {**built, "pretrained": pretrained} if loads else built, parameters)
        if weights and pretrained:
            _start(model, name, parameters, built, weights, tell)
        if grey:  # the weights are of pictures in colour
            model = nn.Sequential(GreyToRGB(), model)
    if not isinstance(model, nn.Module):
        raise UserError(f"model {name!r}: it returned {type(model).__name__}, a torch.nn.Module is needed")
    return model


def _weights(name: str, parameters: dict[str, Any]) -> tuple[str, str | None] | None:
    """Take ``weights`` and their hash out of the parameters; None where there are none."""
    found = identified(name, {"weights_hash": None, **parameters})  # nothing is fetched: who plans has done that
    parameters.clear()
    parameters.update({key: value for key, value in found.items() if key not in KEYS})
    return (found["weights"], found["weights_hash"]) if "weights" in found else None


def _start(
    model: nn.Module,
    name: str,
    parameters: Mapping[str, Any],
    facts: Mapping[str, Any],
    weights: tuple[str, str | None],
    tell: Callable[[str], object],
) -> None:
    """Load the weights of a file into a model."""

    def head() -> set[str]:
        """Names of the tensors that have another shape for one class more."""
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            other = _build(name, {**facts, "num_classes": facts["num_classes"] + 1}, parameters).state_dict()
        return {key for key, value in model.state_dict().items() if other[key].shape != value.shape}

    what = f"weights {weights[0]} do not fit {_shown(name, parameters)}"
    replaced = start_from(model, read_weights(name, *weights), head, what)
    if replaced:
        tell(
            f"{_shown(name, parameters)} starts from {weights[0]}; its head ({', '.join(replaced)}) starts at random: "
            f"that one is not of {facts['num_classes']} classes"
        )


def _build(name: str, task: Mapping[str, Any], parameters: Mapping[str, Any]) -> Any:
    builder = _builder(name)
    try:
        signature = inspect.signature(builder)
        if is_users_own(name) and not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            task = {key: value for key, value in task.items() if key in signature.parameters}
        arguments = {**task, **parameters}
        signature.bind(**arguments)
    except TypeError as error:
        options = [p for p in signature.parameters if p not in task]
        wrong = [p for p in parameters if p not in options]
        hint = did_you_mean(wrong[0], options) if wrong else f"it takes {signature}"
        raise UserError(f"model {name!r}: {error}: {hint}") from None
    except ValueError:  # a callable of C code without a signature
        raise UserError(f"model {name!r}: it cannot be called with input_shape and num_classes") from None
    if is_users_own(name):
        with calling(_shown(name, parameters)):
            return builder(**arguments)
    try:
        return builder(**arguments)
    except _IMPOSSIBLE as error:
        raise UserError(f"{_shown(name, parameters)} cannot be built: {first_line(error)}") from None


# What builders raise for sizes that do not fit; torchvision and timm assert some of them.
_IMPOSSIBLE = (TypeError, ValueError, RuntimeError, AssertionError, LookupError, ArithmeticError)


def _shown(name: str, parameters: Mapping[str, Any]) -> str:
    return f"model {name}({', '.join(f'{key}={value}' for key, value in parameters.items())})"


def _builder(name: str) -> Callable[..., nn.Module]:
    """What `name` stands for: a callable that takes input_shape, num_classes and the parameters as keywords."""
    if name in OBJECTS:
        return OBJECTS[name]
    if is_users_own(name):
        return load_own(name)
    source, colon, rest = name.partition(":")
    if colon:
        return functools.partial(LIBRARIES[source], rest)
    if name in MODELS:
        return MODELS[name]
    libraries = ", ".join(f"{library}:NAME" for library in LIBRARIES)
    raise UserError(f"unknown model {name!r}: {MODELS.hint(name)}, {libraries} or package.module:callable")
