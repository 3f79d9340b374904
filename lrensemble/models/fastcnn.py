"""A convolutional network that trains in few epochs, in the manner of airbench94 (Jordan 2024, arXiv:2404.00498)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from lrensemble.errors import UserError

SMALLEST = 9  # pixels a side: the first convolution takes one, then three poolings halve


class Head(nn.Module):
    """Largest value of each channel, then logits without bias, divided by 9.

    On 28x28 and 32x32 images three by three pixels are left here, so this is airbench's pooling of 3x3. The ninth is
    airbench's too: the first predictions are nearly uniform.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.amax((2, 3)))
        return logits / 9


def _norm(channels: int) -> nn.Module:
    norm = nn.BatchNorm2d(channels)
    norm.weight.requires_grad_(False)  # airbench trains the bias alone
    return norm


def _convolution(channels_in: int, channels: int) -> nn.Module:
    """3x3 convolution whose first filters copy one input channel each; the others start at torch's random values."""
    convolution = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(convolution.weight[:channels_in])
    return convolution


def fastcnn(*, input_shape: tuple[int, ...], num_classes: int, width: float = 1.0) -> nn.Module:
    """Airbench94's network without its use of the data: three blocks of 64, 256 and 256 times `width` channels.

    A 2x2 convolution of 24 filters; in each block convolution, max pooling, batch norm, GELU, convolution, batch norm,
    GELU; batch norm without scale, convolutions that start as the identity (sections 3.1 and 3.3). On RGB images with
    10 classes it has airbench94's 1,971,640 parameters (1.97 M) and trains all of them.

    What differs: airbench computes the 288 weights of the first filters from training images (whitening, section 3.2)
    and freezes them. A model here is built before it sees data, so they start at random and are trained, with a batch
    norm behind them for the scale. That costs epochs: to 94 % on CIFAR-10 the paper needs 45 without whitening and 21
    with it. Batch norms keep torch's eps and momentum. The rest of airbench (64 times the LR for the norms' biases,
    lookahead, test-time augmentation) is no part of a model.
    """
    if min(input_shape[1:]) < SMALLEST:
        raise UserError(
            f"model fastcnn cannot take inputs of shape {input_shape} (channels, height, width): "
            f"it needs at least {SMALLEST}x{SMALLEST} pixels"
        )
    channels = [24, *(round(width * size) for size in (64, 256, 256))]
    if min(channels) < 1:
        raise UserError(f"fastcnn: width = {width} leaves {channels[1]} channels: it must be a factor such as 0.5 or 2")
    layers: list[nn.Module] = [nn.Conv2d(input_shape[0], channels[0], 2, bias=False), _norm(channels[0]), nn.GELU()]
    for before, after in itertools.pairwise(channels):
        layers += [_convolution(before, after), nn.MaxPool2d(2), _norm(after), nn.GELU()]
        layers += [_convolution(after, after), _norm(after), nn.GELU()]
    return nn.Sequential(*layers, Head(channels[-1], num_classes))
