"""Spiking networks for event cameras, by name in a configuration: ``carsnn`` and ``event_resnet``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lrensemble.errors import UserError
from lrensemble.models.spiking.layers import Spiking, SpikingNet
from lrensemble.models.spiking.neuron import LIF, pool

Settings = Mapping[str, Any]  # of `LIF`
SMALLEST = 16  # pixels a side
MOST_HIDDEN = 512


def _check(name: str, input_shape: tuple[int, ...], rate: float | None) -> tuple[int, int, int]:
    """Channels, height and width of (T, channels, height, width)."""
    if len(input_shape) != 4:
        raise UserError(f"model {name} takes events (steps, polarities, height, width), not rows of {input_shape}")
    if min(input_shape[2:]) < SMALLEST:
        raise UserError(f"model {name} cannot take a window of {input_shape[3]}x{input_shape[2]} pixels: "
                        f"it needs at least {SMALLEST}x{SMALLEST}")  # fmt: skip
    if rate is not None and not 0 < rate < 0.5:
        raise UserError(f"model {name}: rate = {rate} is not possible: spikes a step, between 0 and 0.5 (0.15)")
    return input_shape[1], input_shape[2], input_shape[3]


class CarSNN(SpikingNet):
    """Viale et al. 2021, the network of FastSpiker: two convolutions and two fully connected layers, all spiking."""

    def __init__(
        self,
        channels: int,
        flat: int,
        hidden: int,
        num_classes: int,
        rate: float | None,
        settings: Settings,
    ) -> None:
        super().__init__(rate)

        def layer(synapses: nn.Module, halve: bool = False, pooled: int = 1) -> Spiking:
            return Spiking(synapses, LIF(**settings), halve=halve, pooled=pooled)

        self.conv1 = layer(nn.Conv2d(channels, 32, 3, padding=1, bias=False), halve=True)
        self.conv2 = layer(nn.Conv2d(32, 32, 3, padding=1, bias=False), halve=True, pooled=4)
        self.fc1 = layer(nn.Linear(flat, hidden, bias=False), pooled=4)
        self.fc2 = layer(nn.Linear(hidden, num_classes, bias=False))

    def spikes(self, x: Tensor, steps: int) -> Tensor:
        x = self.conv2(self.conv1(pool(pool(x)), steps))
        fired: Tensor = self.fc2(self.fc1(x.flatten(2)))
        return fired


def carsnn(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    hidden: int | None = None,
    decay: float = 0.2,
    threshold: float = 0.4,
    surrogate: str = "rectangle",
    rate: float | None = 0.15,
) -> nn.Module:
    """CarSNN (Viale et al. 2021) for windows from 16 pixels a side: (B, T, 2, H, W) -> rates (B, num_classes).

    Average pooling 4, convolution 3x3 of 32, pooling 2, convolution 3x3 of 32, pooling 2, `hidden` neurons, and one a
    class; no biases. On 50x50 pixels with 2 classes it has the paper's 51,552 parameters, on 100x100 its 600,640.

    Parameters
    ----------
    hidden : int, optional
        Default: half of what the last pooling leaves, 512 at most; that is 144 and 512 in the paper's two networks.
    rate : float, optional
        Spikes a step that every layer's weights are scaled to on training crops before the first step; None: torch's
        initialisation, with which the network is silent.
    """
    channels, height, width = _check("carsnn", input_shape, rate)
    flat = 32 * (height // 16) * (width // 16)
    hidden = min(MOST_HIDDEN, flat // 2) if hidden is None else hidden
    if hidden < 1:
        raise UserError(f"carsnn: hidden = {hidden} is not possible: it must be at least 1")
    settings = {"decay": decay, "threshold": threshold, "surrogate": surrogate}
    return CarSNN(channels, flat, hidden, num_classes, rate, settings)


class SpikingBlock(nn.Module):
    """Two spiking convolutions beside a shortcut; the spikes of both are added (SEW, Fang et al. 2021)."""

    def __init__(self, channels_in: int, channels: int, settings: Settings, pooled: int) -> None:
        super().__init__()

        def layer(before: int, size: int, pooled: int = 1) -> Spiking:
            synapses = nn.Conv2d(before, channels, size, padding=size // 2, bias=False)
            return Spiking(synapses, LIF(**settings), pooled=pooled)

        self.conv1, self.conv2 = layer(channels_in, 3, pooled), layer(channels, 3)
        self.shortcut = None if channels_in == channels else layer(channels_in, 1, pooled)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return out + (x if self.shortcut is None else self.shortcut(x))


class EventResNet(SpikingNet):
    """A stem, three blocks with 2x2 pooling between them, the mean over pixels, and one neuron a class."""

    def __init__(
        self, channels: int, pixels: int, width: int, num_classes: int, rate: float | None, settings: Settings
    ) -> None:
        super().__init__(rate)
        stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.stem = Spiking(stem, LIF(**settings))
        widths = [width, width, 2 * width, 4 * width]
        pairs = enumerate(itertools.pairwise(widths))
        self.blocks = nn.ModuleList(SpikingBlock(a, b, settings, pooled=4 if i else 1) for i, (a, b) in pairs)
        head = nn.Linear(widths[-1], num_classes, bias=False)
        self.head = Spiking(head, LIF(**settings), pooled=pixels)

    def spikes(self, x: Tensor, steps: int) -> Tensor:
        x = self.stem(pool(x), steps)
        for i, block in enumerate(self.blocks):
            x = block(pool(x) if i else x)
        fired: Tensor = self.head(x.mean((-2, -1)))
        return fired


def event_resnet(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int = 16,
    decay: float = 0.5,
    threshold: float = 0.4,
    surrogate: str = "rectangle",
    rate: float | None = 0.15,
) -> nn.Module:
    """A small spiking residual network: (B, T, 2, H, W) -> rates (B, num_classes); parameters as of `carsnn`.

    Pooling 2, then blocks of `width`, 2 and 4 times `width` channels: 77,216 parameters with 10 classes.
    """
    channels, height, across = _check("event_resnet", input_shape, rate)
    if width < 1:
        raise UserError(f"event_resnet: width = {width} is not possible: it must be at least 1")
    settings = {"decay": decay, "threshold": threshold, "surrogate": surrogate}
    return EventResNet(channels, (height // 8) * (across // 8), width, num_classes, rate, settings)
