"""Operations of an inference of the library's spiking networks, as NeuroBench names them (Yik et al. 2025).

A spike costs an accumulation (AC) at each of its synapses: pixels at a border have fewer, and average pooling adds
none, as it only moves a factor into the weights. The first layer gets event counts, so that its operations are
multiply-accumulates (MACs) of the inputs that are not 0. A frame that is shown for all steps goes through it once.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input


def fan_out(synapses: nn.Module, shape: torch.Size) -> Tensor:
    """Synapses of every input (*shape): of a row without its batch."""
    if isinstance(synapses, nn.Conv2d):
        weight = torch.ones_like(synapses.weight)
        with torch.no_grad():
            ones = torch.ones_like(synapses(torch.zeros(1, *shape, device=weight.device, dtype=weight.dtype)))
            counts: Tensor = conv2d_input(  # type: ignore[no-untyped-call]
                (1, *shape),
                weight,
                ones,
                stride=synapses.stride,
                padding=synapses.padding,
                dilation=synapses.dilation,
                groups=synapses.groups,
            )
        return counts[0].round()
    assert isinstance(synapses, nn.Linear)
    return torch.full(shape, float(synapses.out_features), device=synapses.weight.device)


@contextlib.contextmanager
def counting(model: nn.Module, rows: int) -> Iterator[Callable[[], dict[str, Tensor]]]:
    """Count in the calls of `model` inside; what it yields gives the sums, (rows,) each, nothing for other networks.

    ``dense_macs`` (every input at every synapse), ``effective_macs``, ``acs`` and ``spikes`` (that reach synapses).
    """
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(rows))
    called: list[nn.Module] = []

    def by_row(values: Tensor) -> Tensor:
        """(steps, B, ...) -> (rows,): of a row all steps, crops or frames."""
        return values.flatten(2).sum((0, 2)).double().view(rows, -1).sum(1).cpu()

    def hook(module: Any, args: tuple[Any, ...]) -> None:
        x: Tensor = args[0]
        called.append(module)
        fan = fan_out(module.synapses, x.shape[2:])
        sums["dense_macs"] = sums["dense_macs"] + by_row(fan.expand_as(x))
        if module is called[0]:
            sums["effective_macs"] = sums["effective_macs"] + by_row((x != 0) * fan)
        else:
            sums["acs"] = sums["acs"] + by_row(x * fan) * module.pooled
            sums["spikes"] = sums["spikes"] + by_row(x) * module.pooled

    layers = [module for module in model.modules() if hasattr(module, "synapses") and hasattr(module, "pooled")]
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        yield lambda: dict(sums)
    finally:
        for handle in handles:
            handle.remove()
