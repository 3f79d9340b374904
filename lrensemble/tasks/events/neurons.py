"""What spiking modules have in common, whoever wrote them: states that are reset, and spikes that are counted.

The library's own neurons and those of snnTorch, SpikingJelly and norse are known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

RESETS = ("reset_mem", "reset")  # of snnTorch's neurons; of SpikingJelly's; norse's states are arguments
THRESHOLDS = ("threshold", "v_threshold")  # of our own and snnTorch's neurons; of SpikingJelly's
NEURONS = "neuron"


def reset_states(model: nn.Module) -> None:
    """Call the reset of every module that has one, so that nothing of the batch before is left.

    Without it, libraries whose neurons keep their states go backward through the last batch once more.
    """
    for module in model.modules():
        for name in RESETS:
            reset = getattr(module, name, None)
            if callable(reset):
                reset()
                break


def firing_rates(model: nn.Module, run: Callable[[nn.Module], Any], rows: int) -> dict[str, Tensor]:
    """Spikes a neuron and step of every layer of neurons in ``run(model)``, by row where it can be told: (B,).

    The library's own layers are (steps, B, ...); of others the mean over the batch stands for every row.
    """
    sums: dict[str, list[Tensor]] = defaultdict(list)
    hooks = []

    def hook_of(key: str, own: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            spikes = (output[0] if isinstance(output, tuple) else output).detach().float()
            if own:
                sums[key].append(spikes.transpose(0, 1).reshape(rows, -1).mean(1))
            else:
                sums[key].append(spikes.mean().expand(rows))

        return hook

    for name, module in model.named_modules():
        if is_neuron(module):
            key = "rate_" + (name.removesuffix(f".{NEURONS}") or "all").replace(".", "_")
            own = type(module).__module__.startswith("lrensemble.")
            hooks.append(module.register_forward_hook(hook_of(key, own)))
    try:
        if hooks:
            with torch.no_grad():
                run(model)
    finally:
        for handle in hooks:
            handle.remove()
    return {key: torch.stack(values).mean(0) for key, values in sums.items()}


def is_neuron(module: nn.Module) -> bool:
    """Whether it has a threshold (a cell of norse has it in its parameters ``p``), and nothing below it has one."""
    if hasattr(getattr(module, "p", None), "v_th"):
        return True
    has_one = [any(hasattr(part, key) for key in THRESHOLDS) for part in module.modules()]
    return has_one[0] and not any(has_one[1:])
