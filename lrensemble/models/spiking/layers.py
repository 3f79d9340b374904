"""Layers of spiking networks, and weights that make every one of them fire before the training begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lrensemble.models.spiking.neuron import LIF

TOLERANCE = 0.005  # of a calibrated rate
MOST = 2.0**40  # times the first weights: what does not fire then has no input
TRIES = 40


class Spiking(nn.Module):
    """Synapses without biases and the neurons behind them: (T, B, ...) or (1, B, ...) -> spikes (steps, B, ...).

    An input that is the same at all steps, (1, B, ...), goes through the synapses once. With `halve` the spikes are
    averaged over 2 x 2 pixels. `pooled` is how many spikes an input of 1 stands for: what is in front averages them.
    """

    def __init__(self, synapses: nn.Module, neuron: LIF, *, halve: bool = False, pooled: int = 1) -> None:
        super().__init__()
        self.synapses, self.neuron, self.halve, self.pooled = synapses, neuron, halve, pooled
        self.wanted: float | None = None  # rate that the weights are scaled to in the next call

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        current = self.synapses(x.flatten(0, 1))
        current = current.unflatten(0, x.shape[:2])
        if self.wanted is not None:
            factor = factor_for(self.wanted, current, lambda scaled: self.neuron(scaled, steps, halve=self.halve))
            for weights in self.synapses.parameters():
                weights.mul_(factor)
            current = current * factor
        spikes: Tensor = self.neuron(current, steps, halve=self.halve)
        return spikes


def factor_for(rate: float, current: Tensor, fire: Callable[[Tensor], Tensor]) -> float:
    """The factor of currents with which neurons fire at `rate`, or at three quarters of the most that is possible.

    1 where nothing can fire.
    """

    def excess(factor: float) -> float:  # of the rate
        return float(fire(current * factor).mean()) - rate

    most = excess(MOST) + rate
    if most == 0:
        return 1.0
    rate = min(rate, 0.75 * most)  # of a sparse input few neurons get anything
    low = high = 1.0
    while excess(low) > 0:
        low /= 2
    while excess(high) < 0:
        high *= 2
    middle: float = (low * high) ** 0.5
    for _ in range(TRIES):
        over = excess(middle)
        if abs(over) < TOLERANCE:
            break
        low, high = (low, middle) if over > 0 else (middle, high)
        middle = (low * high) ** 0.5
    return middle


class SpikingNet(nn.Module):
    """What the spiking networks have in common: (B, T, 2, H, W) -> rates of the output neurons (B, C), 0 to 1.

    A subclass has `spikes`. `rate` is what `calibrate` scales every layer to, None leaves the weights as they are.
    """

    def __init__(self, rate: float | None) -> None:
        super().__init__()
        self.rate = rate

    def spikes(self, x: Tensor, steps: int) -> Tensor:
        """Of the output neurons (T, B, C), from frames (T, B, 2, H, W) or one for all steps (1, B, 2, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[1]
        # A frame that is shown for all steps is expanded, not copied: then it is computed once.
        frames = x[:, :1] if steps > 1 and x.stride(1) == 0 else x
        return self.spikes(frames.transpose(0, 1), steps).mean(0)

    def calibrate(self, run: Callable[[nn.Module], Any]) -> None:
        """Scale every layer's weights, one after the other, so that it fires at `rate` in ``run(self)``.

        With torch's initialisation CarSNN is silent, and a silent network has no gradient.
        """
        if self.rate is None:
            return
        layers = [module for module in self.modules() if isinstance(module, Spiking)]
        for layer in layers:
            layer.wanted = self.rate
        try:
            with torch.no_grad():
                run(self)
        finally:
            for layer in layers:
                layer.wanted = None
