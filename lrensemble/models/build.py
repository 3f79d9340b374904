"""From a name and parameters to a module."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lrensemble.errors import UserError, did_you_mean
from lrensemble.models.caffe import cnn3, lenet
from lrensemble.models.fastcnn import fastcnn
from lrensemble.models.libraries import LIBRARIES
from lrensemble.models.mlp import mlp
from lrensemble.models.resnet import resnet
from lrensemble.models.wide_resnet import wide_resnet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "lenet": lenet,
    "cnn3": cnn3,
    "resnet20": functools.partial(resnet, depth=20),
    "resnet32": functools.partial(resnet, depth=32),
    "resnet56": functools.partial(resnet, depth=56),
    "wrn16_4": functools.partial(wide_resnet, depth=16, width=4),
    "wrn28_10": functools.partial(wide_resnet, depth=28, width=10),
    "fastcnn": fastcnn,
}


def build_model(
    name: str, *, input_shape: tuple[int, ...], num_classes: int, parameters: Mapping[str, Any] | None = None
) -> nn.Module:
    """Build a module that maps (B, *input_shape) to (B, num_classes) logits.

    Parameters
    ----------
    name : str
        A name in `MODELS`; ``torchvision:NAME`` or ``timm:NAME`` for any classifier of these libraries (random
        weights); or ``package.module:callable``, called with ``input_shape``, ``num_classes`` and `parameters` as
        keywords.
    input_shape : tuple of int
        (channels, height, width).

    Raises
    ------
    UserError
        Unknown name or parameter (with the nearest ones), a callable that cannot be imported, a library that is not
        installed, or a model that does not exist for images of this shape.
    """
    parameters = dict(parameters or {})
    builder = _builder(name)
    arguments = {"input_shape": input_shape, "num_classes": num_classes, **parameters}
    try:
        signature = inspect.signature(builder)
        signature.bind(**arguments)
    except TypeError as error:
        options = [p for p in signature.parameters if p not in ("input_shape", "num_classes")]
        wrong = [p for p in parameters if p not in options]
        hint = did_you_mean(wrong[0], options) if wrong else f"it takes {signature}"
        raise UserError(f"model {name!r}: {error}: {hint}") from None
    except ValueError:  # a callable of C code without a signature
        raise UserError(f"model {name!r}: it cannot be called with input_shape and num_classes") from None
    try:
        model = builder(**arguments)
    except _IMPOSSIBLE as error:
        if is_users_own(name):
            raise  # their traceback helps them more than our line
        raise UserError(_impossible(name, parameters, error)) from None
    if not isinstance(model, nn.Module):
        raise UserError(f"model {name!r}: it returned {type(model).__name__}, a torch.nn.Module is needed")
    return model


# What builders raise for sizes that do not fit; torchvision and timm assert some of them.
_IMPOSSIBLE = (TypeError, ValueError, RuntimeError, AssertionError, LookupError, ArithmeticError)


def _impossible(name: str, parameters: Mapping[str, Any], error: Exception) -> str:
    shown = ", ".join(f"{key}={value}" for key, value in parameters.items())
    reason = str(error) or type(error).__name__  # an assertion may say nothing
    return f"model {name}({shown}) cannot be built: {reason.splitlines()[0]}"


def is_users_own(name: str) -> bool:
    """True for ``package.module:callable``."""
    source, colon, _ = name.partition(":")
    return bool(colon) and source not in LIBRARIES


def _builder(name: str) -> Callable[..., nn.Module]:
    """What `name` stands for: a callable that takes input_shape, num_classes and the parameters as keywords."""
    source, colon, rest = name.partition(":")
    if not colon and name in MODELS:
        return MODELS[name]
    if not colon:
        libraries = ", ".join(f"{library}:NAME" for library in LIBRARIES)
        raise UserError(f"unknown model {name!r}: {did_you_mean(name, MODELS)}, {libraries} or package.module:callable")
    return functools.partial(LIBRARIES[source], rest) if source in LIBRARIES else _import(source, rest)


def _import(module: str, attribute: str) -> Callable[..., nn.Module]:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a user's my_models.py beside the config
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise  # an import inside the user's module: their traceback helps them
        raise UserError(
            f"model {module}:{attribute}: there is no module {module!r} in {Path.cwd()} or installed"
        ) from None
    except (ValueError, TypeError):  # an empty or a relative name
        raise UserError(f"model {module}:{attribute}: {module!r} is not the name of a module") from None
    builder = getattr(found, attribute, None)
    if not callable(builder):
        names = [n for n in vars(found) if callable(getattr(found, n)) and not n.startswith("_")]
        raise UserError(f"model {module}:{attribute}: {did_you_mean(attribute, names)}")
    return builder  # type: ignore[no-any-return]
