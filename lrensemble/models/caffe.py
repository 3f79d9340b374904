"""The two convolutional networks of the LRBench papers, as Caffe's examples define them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrensemble.errors import UserError


def _flat_features(features: nn.Module, name: str, input_shape: tuple[int, ...]) -> int:
    """Length of the flattened output of `features`, or a `UserError` when the images are too small for it."""
    try:
        with torch.no_grad():
            return int(features(torch.zeros(1, *input_shape)).numel())
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"model {name} cannot take inputs of shape {input_shape} (channels, height, width): {error}"
        ) from None


def lenet(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    channels: Sequence[int] = (20, 50),
    hidden: int = 500,
) -> nn.Module:
    """LeNet as in Caffe's examples/mnist: two 5x5 convolutions with max pooling, no ReLU before the hidden layer.

    The defaults are Caffe's 20-50-500 (431,080 parameters on 28x28 grey images with 10 classes).
    """
    first, second = channels
    features = nn.Sequential(
        nn.Conv2d(input_shape[0], first, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    flat = _flat_features(features, "lenet", input_shape)
    return nn.Sequential(features, nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))


class SpatialResponseNorm(nn.Module):
    """Caffe's LRN WITHIN_CHANNEL: x / (1 + alpha * mean of x^2 over size x size neighbours)^beta.

    torch's own ``LocalResponseNorm`` is the other kind, across channels.
    """

    def __init__(self, size: int = 3, alpha: float = 5e-5, beta: float = 0.75) -> None:
        super().__init__()
        self.size, self.alpha, self.beta = size, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        energy = F.avg_pool2d(x * x, self.size, stride=1, padding=self.size // 2)
        return x / (1 + self.alpha * energy) ** self.beta


def cnn3(*, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """CNN3 of LRBench: Caffe's cifar10_full, three 5x5 convolutions (89,578 parameters on 32x32 RGB, 10 classes).

    Layers and pooling (3x3, stride 2, ceil mode) are Caffe's; the initialisation is torch's.
    """

    def pool(kind: type[nn.MaxPool2d] | type[nn.AvgPool2d]) -> nn.Module:
        return kind(3, stride=2, ceil_mode=True)

    features = nn.Sequential(
        nn.Conv2d(input_shape[0], 32, 5, padding=2),
        pool(nn.MaxPool2d),
        nn.ReLU(),
        SpatialResponseNorm(),
        nn.Conv2d(32, 32, 5, padding=2),
        nn.ReLU(),
        pool(nn.AvgPool2d),
        SpatialResponseNorm(),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        pool(nn.AvgPool2d),
        nn.Flatten(),
    )
    return nn.Sequential(features, nn.Linear(_flat_features(features, "cnn3", input_shape), num_classes))
