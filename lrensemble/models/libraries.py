"""Architectures of other libraries: ``torchvision:NAME`` and ``timm:NAME``; their weights are read by `pretrained`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lrensemble.errors import UserError, did_you_mean
from lrensemble.installing import needed


class GreyToRGB(nn.Module):
    """Repeat one channel three times, so that torchvision's networks take grey images."""

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1)


# Parameters with which the libraries fetch or unpickle weights, or build another thing than a classifier.
_REFUSED = {"weights", "weights_backbone", "checkpoint_path", "cache_dir", "state_dict", "features_only", "quantize"}
_SIZES = {"pretrained_window_sizes"}  # of Swin V2


def _check_parameters(model: str, parameters: dict[str, Any]) -> None:
    for name in parameters:
        if name in _REFUSED or (name.startswith("pretrained") and name not in _SIZES):
            raise UserError(
                f"model {model}: {name} is not possible: it is a classifier, and starts at random, or from "
                "weights: FILE or DEFAULT"
            )


def _torchvision(name: str, /, *, input_shape: tuple[int, ...], num_classes: int, **parameters: Any) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"unknown torchvision model {name!r}: {did_you_mean(name, known)}")
    _check_parameters(f"torchvision:{name}", parameters)
    model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **parameters)
    return nn.Sequential(GreyToRGB(), model) if input_shape[0] == 1 else model


def _timm(name: str, /, *, input_shape: tuple[int, ...], num_classes: int, **parameters: Any) -> nn.Module:
    with needed(f"model timm:{name} needs timm", "timm"):
        import timm
    known = timm.list_models()  # without addresses to download from
    if name not in known and name not in timm.list_pretrained():  # with the tag of weights: resnet18.a1_in1k
        raise UserError(f"unknown timm model {name!r}: {did_you_mean(name, known)}")
    _check_parameters(f"timm:{name}", parameters)
    arguments: dict[str, Any] = {"num_classes": num_classes, "in_chans": input_shape[0]}
    sized = {"img_size": tuple(input_shape[1:]), **parameters}
    try:
        return timm.create_model(name, pretrained=False, **arguments, **sized)
    except TypeError as error:
        # Only the call tells whether a model takes img_size: timm passes keywords through to the class.
        if "img_size" not in str(error) or "img_size" in parameters:
            raise
    return timm.create_model(name, pretrained=False, **arguments, **parameters)


LIBRARIES: dict[str, Callable[..., nn.Module]] = {"torchvision": _torchvision, "timm": _timm}
