"""Accuracy on corrupted test rows at three severities: noise, blur and shift of images, or changes of recordings.

After Hendrycks & Dietterich 2019, but relative to the data set, so that it fits images of any size and unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lrensemble.evaluation.paired import PairedRows, RowScores
from lrensemble.evaluation.results import Gain
from lrensemble.metrics import expected_calibration_error
from lrensemble.robustness.events import EVENT_CHANGES
from lrensemble.robustness.networks import Change, Networks
from lrensemble.tasks import Images
from lrensemble.tasks.events import EventTask, Recording
from lrensemble.training.seeds import derive_seed

LEVELS = (1, 2, 3)


class Scale(NamedTuple):
    """What a data set's images look like."""

    std: Tensor  # (C, 1, 1) of the train images
    low: float  # of all test images
    high: float


def noise(images: Tensor, level: int, scale: Scale, generator: torch.Generator) -> Tensor:
    """Gaussian noise of 0.2, 0.4, 0.8 standard deviations of the train images, cut to their range."""
    size = 0.1 * 2**level
    drawn = torch.randn(images.shape, generator=generator, device=images.device)
    noisy: Tensor = (images + size * scale.std * drawn).clamp(scale.low, scale.high)
    return noisy


def blur(images: Tensor, level: int, scale: Scale, generator: torch.Generator) -> Tensor:
    """Gaussian blur with a deviation of 0.5, 1, 2 pixels on images of 32 pixels, in proportion on others."""
    from torchvision.transforms.functional import gaussian_blur

    side = min(images.shape[-2:])
    sigma = 0.25 * 2**level * side / 32
    radius = min(max(1, math.ceil(3 * sigma)), side - 1)  # the border is reflected, which needs as many pixels
    if radius == 0:
        return images
    blurred: Tensor = gaussian_blur(images, [2 * radius + 1] * 2, [sigma, sigma])
    return blurred


def shift(images: Tensor, level: int, scale: Scale, generator: torch.Generator) -> Tensor:
    """Moved by 1/16, 1/8, 1/4 of height and width (1, 2, 3 pixels at least), in one of four diagonal directions.

    The direction is random; the border is repeated.
    """
    index = []
    for side in images.shape[-2:]:
        distance = max(level, round(side * 2**level / 32))
        sign = 1 - 2 * torch.randint(2, (len(images), 1), generator=generator, device=images.device)
        index.append((torch.arange(side, device=images.device) + sign * distance).clamp(0, side - 1))
    rows, columns = index
    number = torch.arange(len(images), device=images.device)[:, None, None]
    # Indexed dimensions come first: (B, H, W, C).
    return images[number, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


CORRUPTIONS: dict[str, Callable[[Tensor, int, Scale, torch.Generator], Tensor]] = {
    "noise": noise,
    "blur": blur,
    "shift": shift,
}


@dataclass(frozen=True)
class Corrupted:
    """A team (or the best single member) on test rows with one corruption."""

    name: str
    corruption: str  # "clean" for none
    level: int  # 1 to 3; 0 for none
    rows: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    nll: float | None
    ece: float
    accuracy_gain: Gain | None  # over the best single member on the same rows, in points; None for itself


def corruption(networks: Networks) -> list[Corrupted]:
    """Every team on the clean test rows, then under every corruption at every level."""
    found = _scores(networks, networks.clean_votes(), "clean", 0)
    data = networks.data
    scale = _scale(networks, data) if isinstance(data, Images) else None
    for name in CORRUPTIONS if scale else EVENT_CHANGES:
        for level in LEVELS:
            if isinstance(data, EventTask):
                votes = networks.votes(data.fixed("test", changing(name, level, data.frames["bin_us"])))
            else:
                assert scale
                votes = networks.votes(data.test.images, corrupting(name, level, scale, networks.device))
            found += _scores(networks, votes, name, level)
    return found


def changing(name: str, level: int, bin_us: int) -> Callable[[Recording, int], Recording]:
    """The corruption of one of `EVENT_CHANGES` as a change of a recording, by its number."""

    def change(one: Recording, row: int) -> Recording:
        return EVENT_CHANGES[name](one, level, bin_us, np.random.default_rng(derive_seed(name, level, row)))

    return change


def corrupting(name: str, level: int, scale: Scale, device: torch.device) -> Change:
    """The corruption as a change of a batch; every member sees the same images."""

    def change(images: Tensor, start: int) -> Tensor:
        generator = torch.Generator(device).manual_seed(derive_seed("corruption", name, level, start))
        return CORRUPTIONS[name](images, level, scale, generator)

    return change


def _scale(networks: Networks, data: Images) -> Scale:
    from lrensemble.tasks.row_arrays import pieces

    parts = [(float(piece.min()), float(piece.max())) for piece in pieces(data.test.images)]
    std = torch.tensor(data.normalisation[1], dtype=torch.float32, device=networks.device)
    return Scale(std[:, None, None], min(low for low, _ in parts), max(high for _, high in parts))


def _scores(networks: Networks, votes: dict[str, Any], name: str, level: int) -> list[Corrupted]:
    labels = networks.data.labels("test")
    rows = PairedRows([RowScores.of(vote, labels) for vote in votes.values()])
    return [
        Corrupted(
            name=team,
            corruption=name,
            level=level,
            rows=len(labels),
            accuracy=rows.accuracy(i),
            accuracy_interval=rows.accuracy_interval(i),
            nll=rows.nll(i),
            ece=expected_calibration_error(vote, labels),
            accuracy_gain=rows.accuracy_gain(i, 0) if i else None,
        )
        for i, (team, vote) in enumerate(votes.items())
    ]
