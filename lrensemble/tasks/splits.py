"""Which folder or array is which split, and whether the splits fit together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrensemble.errors import UserError
from lrensemble.tasks.dataset import Split
from lrensemble.tasks.row_arrays import pieces

NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
SAMPLE = 250  # images of a split that its unit is read from
OTHER_UNIT = 5.0  # times as bright: no two splits of one task; 255 for 1, 65535 for 255, 255 for 16, 1 for 0.06
DOUBTFUL = 1.5  # times as bright: said


def find_splits(names: Iterable[str], where: str) -> tuple[dict[str, str], list[str]]:
    """Split -> its name among `names` (in any case; ``valid`` and ``validation`` are val), and the other names.

    Raises
    ------
    UserError
        Two names for one split.
    """
    names = list(names)
    found: dict[str, str] = {}
    for split, synonyms in NAMES.items():
        present = [name for name in names if name.lower() in synonyms]
        if len(present) > 1:
            raise UserError(f"{where}: {' and '.join(present)} could both be the {split} split: rename or remove one")
        if present:
            found[split] = present[0]
    return found, [name for name in names if name not in found.values()]


def check_splits(splits: Mapping[str, Split]) -> list[str]:
    """Raise `UserError` when the images of the splits differ in shape or unit; return doubts."""
    train = splits["train"]
    for name, split in splits.items():
        if split.images.shape[1:] != train.images.shape[1:]:
            shapes = (f"{one} {tuple(splits[one].images.shape[1:])}" for one in ("train", name))
            raise UserError(f"images of different shapes (channels, height, width): {', '.join(shapes)}")
    _check_constant(splits)
    units = {name: _unit(split) for name, split in splits.items()}
    return [doubt for name, unit in units.items() if (doubt := _check_unit(units["train"], name, unit))]


def _sample(split: Split) -> NDArray[Any]:
    """Some images from all over a split: (n, C, H, W)."""
    return np.asarray(split.images[np.arange(0, len(split), max(1, len(split) // SAMPLE))])


def _check_constant(splits: Mapping[str, Split]) -> None:
    """No split may vary in a channel that does not vary in train: divided by its deviation, it would be huge."""

    def ends(images: Iterable[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        low, high = zip(*((piece.min((0, 2, 3)), piece.max((0, 2, 3))) for piece in images), strict=True)
        return np.min(low, 0), np.max(high, 0)

    low, high = ends([_sample(splits["train"])])
    if (low < high).all():
        return  # the usual case, without a walk through all images
    low, high = ends(pieces(splits["train"].images))
    constant = np.flatnonzero(low == high)
    if len(constant) == len(low):
        raise UserError(f"every pixel of the train images is {low[0]:g}: there is nothing to learn from")
    for name, split in splits.items():
        least, most = ends(pieces(split.images))
        for c in constant:
            if not least[c] == most[c] == low[c]:
                raise UserError(
                    f"channel {c} is {low[c]:g} in all train images, but {least[c]:g} to {most[c]:g} in the {name} "
                    "images: leave it out, or look how they were made"
                )


def _unit(split: Split) -> tuple[float, float, float, float]:
    """Least and highest value of some images, and how far from 0 they typically go: below, above."""
    images = _sample(split).reshape(-1, int(np.prod(split.images.shape[1:])))
    low, high = images.min(1).astype(np.float64), images.max(1).astype(np.float64)
    # Medians: one hot pixel is no unit. Of sparse images (most are empty) means.
    typical = (float(np.median(x) or x.mean()) for x in (np.minimum(low, 0), np.maximum(high, 0)))
    below, above = typical
    return float(low.min()), float(high.max()), -below, above


def _check_unit(train: tuple[float, float, float, float], name: str, other: tuple[float, float, float, float]) -> str:
    """Raise `UserError` where `other` is in another unit than train; return a doubt where it may be."""
    a, b = max(train[2:]), max(other[2:])
    ratio = max(a, b) / max(min(a, b), 1e-300)
    # Of -1 to 1 and 0 to 1, or of standardised and raw values, only one goes far below 0.
    is_signed = [unit[2] > 0.1 * unit[3] for unit in (train, other)]
    none_below = [unit[0] >= 0 for unit in (train, other)]
    spans = [f"{which} images from {unit[0]:g} to {unit[1]:g}" for which, unit in (("train", train), (name, other))]
    if ratio <= OTHER_UNIT and not (is_signed[0] and none_below[1]) and not (is_signed[1] and none_below[0]):
        how = f"typically {a:.3g} and {b:.3g} away from 0"
        return "" if ratio <= DOUBTFUL else f"{', '.join(spans)}, {how}: if that is another unit, bring them to one"
    if b == 0:
        raise UserError(f"{spans[0]}, but every pixel of the {name} images is 0")
    fix = "bring them to the unit of train"
    small = [unit[1] <= 1 for unit in (train, other)]
    if small[0] != small[1] and min(train[0], other[0]) >= 0 and max(train[1], other[1]) <= 255:
        fix = f"{'divide' if small[0] else 'multiply'} the {name} images by 255"
    raise UserError(f"{', '.join(spans)}: another unit, so every prediction would be noise: {fix}")
