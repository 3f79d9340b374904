"""torchvision.transforms.v2 by name: every image of a batch is changed by a draw of its own.

The images of a batch are normalised. Transforms that are written for pixels get these back, bytes exactly as they were,
and what they make is normalised; `RandomErasing` comes after normalisation, as in torchvision's recipes.
"""

from __future__ import annotations

import copy
import enum
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from lrensemble.errors import UserError, did_you_mean, first_line
from lrensemble.tasks.inputs import Normalise

Transform = Any  # a module of torchvision.transforms.v2, which is imported when one is named
Pixels = Literal["bytes", "floats"]  # 0 to 255, or 0 to 1
NORMALISED = ("RandomErasing",)  # its 0 is the mean of normalised images
TRIALS = 64  # draws before training: each choice of RandAugment is among them
COLOURS = ("saturation", "hue")  # torchvision ignores them where images are grey
_WRONG = (TypeError, ValueError, RuntimeError, AssertionError, LookupError, ArithmeticError, AttributeError)


def build_transform(name: str, options: Mapping[str, Any], others: tuple[str, ...] = ()) -> Transform:
    """A transform of torchvision; `UserError` for a name or options that it does not have (`others`: names beside)."""
    from torchvision.transforms import v2

    known = {n: kind for n, kind in vars(v2).items() if inspect.isclass(kind) and issubclass(kind, v2.Transform)}
    if name not in known:
        hint = did_you_mean(name, [*others, *known])
        raise UserError(f"training.augment: no augmentation {name!r}, here or in torchvision.transforms.v2: {hint}")
    parameters = inspect.signature(known[name]).parameters
    given = dict(options)
    try:
        for key, value in options.items():
            if key not in parameters:
                raise UserError(f"training.augment: {name} has no option {key!r}: {did_you_mean(key, parameters)}")
            if isinstance(parameters[key].default, enum.Enum):  # AutoAugment's policy: cifar10
                given[key] = type(parameters[key].default)(value)
        return known[name](**given)
    except _WRONG as error:
        raise UserError(f"training.augment: {_shown(name, options)} cannot be made: {first_line(error)}") from None


def for_each_image(
    name: str, options: Mapping[str, Any], shape: tuple[int, ...], inputs: Normalise, pixels: Pixels
) -> Callable[[Tensor], Tensor]:
    """A transform of torchvision as a function of a batch of normalised images (B, C, H, W).

    One call of a transform draws once, whatever it gets; so it is called for every image.

    Parameters
    ----------
    shape : of one image, (C, H, W)
    inputs : what normalised them
    pixels : what they were before

    Raises
    ------
    UserError
        Unknown name or options, and what a trial finds: images that it cannot take, that come out with another shape,
        or that it never changes.
    """
    transform = build_transform(name, options)
    if shape[0] == 1 and (useless := [key for key in COLOURS if options.get(key)]):
        raise UserError(f"training.augment: {name} has no use for {useless[0]} here: the images are grey (1 channel)")
    is_normalised = name in NORMALISED
    is_bytes = pixels == "bytes" and not is_normalised
    _check(transform, _shown(name, options), shape, is_bytes)

    def change(x: Tensor) -> Tensor:
        before = x
        if not is_normalised:
            before = inputs.to(x.device).undo(x)
            before = before.round().clamp(0, 255).byte() if is_bytes else before.clamp(0, 1)
        after = torch.empty_like(before)  # the memory format stays
        for image, changed in zip(before, after, strict=True):
            changed.copy_(transform(image))
        return after if is_normalised else inputs(after)

    return change


def _check(transform: Transform, shown: str, shape: tuple[int, ...], is_bytes: bool) -> None:
    """Try a transform on noise, with a random state of its own."""
    transform = copy.copy(transform)
    if getattr(transform, "p", 0):
        transform.p = 1.0  # for sure
    has_changed = False
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        bright, dull = torch.randint(0, 256, shape), torch.randint(50, 200, shape)  # autocontrast changes the second
        for trial in range(TRIALS):
            image = (bright, dull)[trial % 2].byte()
            image = image if is_bytes else image / 255
            try:
                found = transform(image.clone())
            except _WRONG as error:
                what = f"images of shape {shape} (channels, height, width)"
                raise UserError(f"training.augment: {shown} cannot change {what}: {first_line(error)}") from None
            if not isinstance(found, Tensor) or (found.shape, found.dtype) != (image.shape, image.dtype):
                what = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"{type(found)}"
                raise UserError(f"training.augment: {shown} makes {what} of an image, {image.dtype} of shape {shape}")
            has_changed = has_changed or not torch.equal(found, image)
    if not has_changed:
        raise UserError(f"training.augment: {shown} never changes images of shape {shape}: leave it out")


def _shown(name: str, options: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})"
