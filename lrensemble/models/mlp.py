"""Multi-layer perceptron."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import nn

from lrensemble.errors import UserError


def mlp(
    *, input_shape: tuple[int, ...], num_classes: int, hidden: Sequence[int] | int = (64,), dropout: float = 0.0
) -> nn.Module:
    """Fully connected ReLU network on the flattened input: (B, *input_shape) -> (B, num_classes) logits."""
    widths = [hidden] if isinstance(hidden, int) else list(hidden)
    if not all(isinstance(width, int) and width > 0 for width in widths):
        raise UserError(f"mlp: hidden = {hidden} is not possible: it must be widths >= 1, for example [64, 64]")
    sizes = [math.prod(input_shape), *widths]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))
