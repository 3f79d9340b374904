"""Out-of-distribution detection: is a team less sure about images of another data set than about its own?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lrensemble.errors import UserError
from lrensemble.metrics import Auroc, auroc, uncertainty
from lrensemble.robustness.networks import Change, Networks
from lrensemble.tasks import Images, load_images
from lrensemble.tasks.row_arrays import pieces


@dataclass(frozen=True)
class Detection:
    """A team (or the best single member) asked to tell foreign from own test images by its uncertainty.

    AUROC: the probability that a foreign image gets the higher uncertainty; 0.5 is chance. Intervals: 95 %, DeLong.
    """

    name: str
    data: str  # the other data set
    own_rows: int
    foreign_rows: int
    max_probability: Auroc
    entropy: Auroc


def out_of_distribution(networks: Networks, text: str) -> list[Detection]:
    """Every team on the test split of another data set, ``NAME`` or ``NAME:ROOT``; nothing is downloaded.

    Its images are resized (bilinear) to the pool's, grey ones repeated or coloured ones averaged to its channels, and
    scaled so that the highest pixel of both training splits is the same.

    Raises
    ------
    UserError
        The data set is not there, is the pool's own, or has other channels than 1 or 3.
    """
    data = networks.data
    if not isinstance(data, Images):
        raise UserError(f"--ood {text}: foreign rows are images, and those of {networks.pool.path} are recordings")
    name, _, root = text.partition(":")
    foreign = load_images(name, root=Path(root) if root else None)
    if _same(foreign, data):
        raise UserError(f"{text} is the pool's own data set: out-of-distribution images must come from another one")
    change = fitting(foreign, data)
    own = networks.clean_votes()
    other = networks.votes(foreign.test.images, change)
    found = []
    for team in networks.entries:
        inside, outside = uncertainty(own[team]), uncertainty(other[team])
        scores = {key: auroc(inside[key], outside[key]) for key in inside}
        found.append(Detection(team, text, len(data.test), len(foreign.test), **scores))
    return found


def fitting(foreign: Images, data: Images) -> Change:
    """Make images of `foreign` the shape and the range of those of `data`."""
    channels, *size = data.input_shape
    theirs = foreign.input_shape[0]
    if theirs != channels and {theirs, channels} != {1, 3}:
        raise UserError(f"images of {theirs} channels cannot be made images of {channels}")
    factor = _highest(data.train.images) / max(_highest(foreign.train.images), 1e-12)

    def change(images: Tensor, start: int) -> Tensor:
        images = images * factor
        if theirs != channels:
            images = images.expand(-1, 3, -1, -1) if channels == 3 else images.mean(1, keepdim=True)
        if list(images.shape[-2:]) != size:
            images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
        return images.to(torch.float32)

    return change


def _same(one: Images, other: Images) -> bool:
    """Whether the test splits are the same images (fingerprints differ with the cut of the validation split too)."""
    a, b = one.test.images, other.test.images
    return a.shape == b.shape and all(np.array_equal(x, y) for x, y in zip(pieces(a), pieces(b), strict=True))


def _highest(images: Any) -> float:
    values: NDArray[Any] = np.array([piece.max() for piece in pieces(images)])
    return float(values.max())
