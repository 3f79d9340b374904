"""The task of classifying images: three splits in a fixed row order, normalised and augmented."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from lrensemble.errors import UserError
from lrensemble.tasks.augment import augmented
from lrensemble.tasks.inputs import Normalise
from lrensemble.tasks.row_arrays import Picked, pick, pieces
from lrensemble.tasks.task import Array, Arrays, Batch, Task, Training


@dataclass(frozen=True)
class Split:
    """Rows in a fixed order.

    Attributes
    ----------
    images : (N, C, H, W) array of uint8 or float32, in memory or memory-mapped (`Picked` rows of a file)
    labels : (N,) array of int64 in [0, classes)
    """

    images: Array | Picked
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: Array) -> Split:
        return Split(pick(self.images, index), self.labels[index])


@dataclass(frozen=True)
class Dataset(Task):
    """The three splits and the names of the classes.

    Training sees `train`, selection sees `val`, and only the evaluation of a selected team sees `test`.
    """

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]

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

    def inputs(self) -> nn.Module:
        return Normalise(*self.normalisation, self.input_shape)

    def augment(self, batch: Batch, training: Training) -> Batch:
        return augmented(batch, training)

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


def make_split(images: Array, labels: Array, where: str) -> Split:
    """Check and bring to the canonical form: images (N, H, W), (N, H, W, C) or (N, C, H, W) with few channels.

    A last axis of 1, 3 or 4 is taken for channels; MedMNIST's labels of shape (N, 1) are accepted.
    """
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise UserError(f"{where}: labels must be one integer a row, not {labels.dtype} of shape {labels.shape}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise UserError(f"{where}: images must be (rows, height, width[, channels]), not of shape {images.shape}")
    if images.shape[-1] in (1, 3, 4):
        images = images.transpose(0, 3, 1, 2)
    if images.dtype != np.uint8:
        if images.dtype.kind not in "iuf":
            raise UserError(f"{where}: images must be numbers, not {images.dtype}")
        if images.dtype != np.float32:
            images = images.astype(np.float32)
        if not all(np.isfinite(piece).all() for piece in pieces(images)):
            raise UserError(f"{where}: images hold NaN or infinite values")
    if len(images) != len(labels):
        raise UserError(f"{where}: {len(images)} images but {len(labels)} labels")
    if len(images) == 0:
        raise UserError(f"{where}: there are no rows")
    on_disk = isinstance(images, np.memmap)
    return Split(images if on_disk else np.ascontiguousarray(images), labels.astype(np.int64))


def cut(split: Split, fraction: float, seed: int, what: str) -> tuple[Split, Split]:
    """Cut a stratified share `fraction` of the rows off: (rest, cut), both in the original order of rows."""
    from sklearn.model_selection import train_test_split

    try:
        rest, off = train_test_split(
            np.arange(len(split)), test_size=fraction, random_state=seed, stratify=split.labels
        )
    except ValueError as error:
        raise UserError(f"cannot cut {what} = {fraction} of {len(split)} rows, stratified: {error}") from None
    return split.rows(np.sort(rest)), split.rows(np.sort(off))


def check_classes(splits: Sequence[tuple[str, Split]], class_names: Sequence[str]) -> None:
    """Raise `UserError` when a label is outside the classes or the shapes of the splits differ."""
    shapes = {split.images.shape[1:] for _, split in splits}
    if len(shapes) > 1:
        raise UserError(f"the splits hold images of different shapes: {', '.join(map(str, sorted(shapes)))}")
    if len(class_names) < 2:
        raise UserError(f"a task needs at least 2 classes, the train split has {len(class_names)}")
    for name, split in splits:
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= len(class_names):
            raise UserError(
                f"{name} labels run from {low} to {high}, but there are {len(class_names)} classes, "
                f"0 to {len(class_names) - 1}"
            )
