"""Frozen lower layers of a model, which are skipped where what they make of a batch is known."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn


class LowerLayers:
    """The lower ones of a list of layers, each wrapped so that it can be skipped.

    Parameters
    ----------
    layers : of hidden states to hidden states, the first argument; changed in place
    count : how many are the lower ones, at least one
    """

    def __init__(self, layers: nn.ModuleList, count: int) -> None:
        self.given: Tensor | None = None
        self.stops = False
        for i in range(count):
            layers[i] = _Skippable(layers[i], self, is_last=i == count - 1)
        self.upper = list(layers[count:])

    @contextlib.contextmanager
    def known(self, output: Tensor) -> Iterator[None]:
        """Within, the last of them gives `output`, and none computes anything."""
        self.given = output
        try:
            yield
        finally:
            self.given = None

    def output(self, forward: Callable[[], Any]) -> Tensor:
        """What the last of them gives when `forward` is called, which goes no further."""
        self.stops = True
        try:
            forward()
        except _Reached as reached:
            return reached.output
        finally:
            self.stops = False
        raise RuntimeError("the forward pass did not reach the lower layers")


class _Skippable(nn.Module):
    def __init__(self, layer: nn.Module, state: LowerLayers, *, is_last: bool) -> None:
        super().__init__()
        self.layer, self.state, self.is_last = layer, state, is_last
        if hasattr(layer, "attention_type"):  # which transformers' models look at
            self.attention_type = layer.attention_type

    def forward(self, hidden: Tensor, *args: Any, **options: Any) -> Any:
        if self.state.given is not None:
            return self.state.given if self.is_last else hidden
        output = self.layer(hidden, *args, **options)
        if self.is_last and self.state.stops:
            raise _Reached(output)
        return output


class _Reached(Exception):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output
