"""The task of classifying images: three splits in a fixed row order, normalised and augmented."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.tasks.augment import AUGMENTATIONS, Augmentation, augmented, name_and_options
from lrensemble.tasks.groups import cut_groups
from lrensemble.tasks.inputs import Normalise
from lrensemble.tasks.labels import checked_labels
from lrensemble.tasks.row_arrays import CHUNK, Picked, pick, pieces
from lrensemble.tasks.task import Arrays, Batch, Task, TrainingOptions
from lrensemble.tasks.transforms import NORMALISED, Pixels, for_each_image

LAYOUTS = {"nchw": "channels, height, width", "nhwc": "height, width, channels"}
USUAL = (1, 3, 4)  # channels: grey, RGB, RGBA
Parts = dict[str, tuple[str, Array]]  # split -> the split of the files that its rows are of, and their numbers
Shares = Mapping[str, float | None]  # of test and val, as the user says them


@dataclass(frozen=True)
class Split:
    """Rows in a fixed order.

    Attributes
    ----------
    images : (N, C, H, W) array of uint8 or float32, in memory or memory-mapped (`Picked` rows of a file)
    labels : (N,) array of int64 in [0, classes)
    groups : (N,) array of texts, where it is known which rows belong together
    """

    images: Array | Picked
    labels: Array
    groups: Array | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: Array) -> Split:
        groups = None if self.groups is None else self.groups[index]
        return Split(pick(self.images, index), self.labels[index], groups)

    def in_groups(self, groups: Array, where: str) -> Split:
        """The same rows, of which it is known which belong together: groups (N,)."""
        if len(groups) != len(self):
            raise UserError(f"data.groups: {len(groups)} groups of {len(self)} rows ({where})")
        return replace(self, groups=groups)


@dataclass(frozen=True)
class Images(Task):
    """The three splits and the names of the classes.

    Training sees `train`, selection sees `val`, and only the evaluation of a selected team sees `test`.
    """

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what was left out, for the user

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return tuple(self.train.images.shape[1:])

    @property
    def facts(self) -> Mapping[str, Any]:  # type: ignore[override]  # read-only
        return {"input_shape": self.input_shape, "num_classes": self.num_classes}

    def split(self, name: str) -> Arrays:
        rows: Split = getattr(self, name)
        return {"x": rows.images, "y": rows.labels}

    def inputs(self) -> Normalise:
        return Normalise(*self.normalisation, self.input_shape)

    def augment(self, batch: Batch, training: TrainingOptions) -> Batch:
        return augmented(batch, training, self._augmentation)

    def _augmentation(self, entry: Any) -> Augmentation:
        """What an entry of ``training.augment`` does to a batch, made and tried once."""
        name, options = name_and_options(entry)
        if name in AUGMENTATIONS:
            return AUGMENTATIONS[name]
        if (key := repr(entry)) not in self._transforms:
            pixels = self._pixels(name)
            self._transforms[key] = for_each_image(name, options, self.input_shape, self.inputs(), pixels)
        return self._transforms[key]

    @cached_property
    def _transforms(self) -> dict[str, Augmentation]:
        return {}

    def _pixels(self, name: str) -> Pixels:
        images = self.train.images
        if images.dtype == np.uint8 or name in NORMALISED:
            return "bytes"
        low, high = (min(p.min() for p in pieces(images)), max(p.max() for p in pieces(images)))
        if low < 0 or high > 1:
            raise UserError(
                f"training.augment: {name} is for images of 8 bits, or floats from 0 to 1; those of train go from "
                f"{low:g} to {high:g}"
            )
        return "floats"

    @cached_property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of every channel over the train split, in the images' own unit."""
        images = self.train.images
        channels, count = self.input_shape[0], len(images) * math.prod(self.input_shape[1:])
        if images.dtype == np.uint8:  # exact integer sums, without a float copy of all images
            hists = np.zeros((channels, 256), dtype=np.int64)
            for piece in pieces(images):
                for c in range(channels):
                    hists[c] += np.bincount(piece[:, c].ravel(), minlength=256)
            levels = np.arange(256, dtype=np.float64)
            means = [float(hist @ levels / count) for hist in hists]
            variances = [float(hist @ (levels - m) ** 2 / count) for hist, m in zip(hists, means, strict=True)]
        else:
            sums = sum(piece.sum((0, 2, 3), dtype=np.float64) for piece in pieces(images))
            mean = sums / count
            squares = sum(((piece - mean[:, None, None]) ** 2).sum((0, 2, 3)) for piece in pieces(images))
            means, variances = [float(x) for x in mean], [float(x) for x in squares / count]
        return means, [max(variance, 1e-12) ** 0.5 for variance in variances]


def make_split(images: Array, labels: Array, where: str, layout: str | None = None) -> Split:
    """Check and bring to the canonical form: images (N, H, W), (N, H, W, C) or (N, C, H, W), labels (N,) or (N, 1).

    `layout` (``nhwc`` or ``nchw``) says where the channels are, `channels_first` guesses it otherwise.
    """
    labels = checked_labels(labels, where)
    if images.ndim == 3:
        images, layout = images[..., None], "nhwc"
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise UserError(f"{where}: images must be (rows, height, width[, channels]), not of shape {images.shape}")
    if len(images) != len(labels):
        raise UserError(f"{where}: {len(images)} images but {len(labels)} labels")
    if len(images) == 0:
        raise UserError(f"{where}: there are no rows")
    images = channels_first(images, where, layout)
    if images.dtype != np.uint8:
        if images.dtype.kind not in "iuf":
            fix = ", images.astype('uint8')" if images.dtype == bool else ""
            raise UserError(f"{where}: images must be numbers, not {images.dtype}{fix}")
        if images.dtype != np.float32:
            with np.errstate(over="ignore"):  # what float32 cannot hold is said below
                images = images.astype(np.float32)
        for number, piece in enumerate(pieces(images)):
            if len(bad := np.flatnonzero(~np.isfinite(piece).all((1, 2, 3)))):
                raise UserError(
                    f"{where}: images hold NaN or infinite values, the first in row {number * CHUNK + bad[0]}"
                )
    on_disk = isinstance(images, np.memmap)
    return Split(images if on_disk else np.ascontiguousarray(images), labels)


def cut(split: Split, fraction: float, seed: int, what: str) -> tuple[Split, Split]:
    """Cut a stratified share `fraction` of the rows off: (rest, cut), both in the original order of rows.

    Where rows have groups, whole groups, and about that share.
    """
    rest, off = cut_rows(split.labels, fraction, seed, what, split.groups)
    return split.rows(rest), split.rows(off)


def cut_rows(labels: Array, fraction: float, seed: int, what: str, groups: Array | None = None) -> tuple[Array, Array]:
    """The numbers of the rows that stay and of those that a stratified cut takes off, both ascending."""
    from sklearn.model_selection import train_test_split

    if groups is not None:
        return cut_groups(labels, groups, fraction, seed, what)
    try:
        rest, off = train_test_split(np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels)
    except ValueError as error:
        raise UserError(f"cannot cut {what} = {fraction} of {len(labels)} rows, stratified: {error}") from None
    return np.sort(rest), np.sort(off)


def cut_missing(parts: Parts, labels: Mapping[str, Array], shares: Shares, seed: int, where: object) -> None:
    """Cut off train what `parts` lacks: test (a quarter, always the same), and then val (a tenth).

    `UserError` for the share of a split that is there.
    """
    for split, default, seed_of in (("test", 0.25, 0), ("val", 0.1, seed)):
        share = shares[split]
        if split not in parts:
            source, rows = parts["train"]
            share = default if share is None else share
            rest, off = cut_rows(labels[source][rows], share, seed_of, f"data.{split}_fraction")
            parts["train"], parts[split] = (source, rows[rest]), (source, rows[off])
        elif share is not None:
            raise UserError(f"data.{split}_fraction = {share}: {where} has a {split} split of its own; leave it out")


def channels_first(images: Array, where: str, layout: str | None = None) -> Array:
    """Images (N, H, W, C) or (N, C, H, W) as (N, C, H, W).

    Without a `layout`: the axis with 1, 3 or 4 entries is the channels, and pictures are square; where neither says
    which, there are fewer channels than pixels on a side.

    Raises
    ------
    UserError
        Both readings are possible, or these two rules contradict each other.
    """
    _, a, b, c = images.shape
    if layout is None and not a == b == c == 1:
        usual, square = (a in USUAL, c in USUAL), (b == c, a == b)  # as nchw, as nhwc
        chosen = {("nchw", "nhwc")[rule[1]] for rule in (usual, square) if rule[0] != rule[1]}
        if not chosen and not any(usual):
            chosen = {name for name, fits in (("nchw", a < min(b, c)), ("nhwc", c < min(a, b))) if fits}
        if len(chosen) != 1:
            raise UserError(
                f"{where}: images of shape {images.shape[1:]} can be {a} channels of {b}x{c} pixels or "
                f"{c} channels of {a}x{b}: data.layout=nchw or data.layout=nhwc says which"
            )
        layout = chosen.pop()
    return images if layout == "nchw" else images.transpose(0, 3, 1, 2)
