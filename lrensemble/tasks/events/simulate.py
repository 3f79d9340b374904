"""Events that a camera would see of a picture in front of it, for demonstrations and tests: no camera's recordings.

A still picture is moved as N-MNIST's were (Orchard et al. 2015): three saccades along a triangle; every pixel fires
when the logarithm of its brightness has changed by its threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.tasks.events.recording import Recording
from lrensemble.tasks.events.sets import EventSet
from lrensemble.tasks.sources import load_images

SACCADE_US = 100_000
STEPS = 50  # of a saccade that brightness is computed at; between them it is a line
CORNERS = np.array([[0.0, 0.0], [1.5, 3.0], [3.0, 0.0], [0.0, 0.0]]) - [1.5, 1.5]  # x, y in pixels
DARK = 0.12  # added to the intensities, 0 to 1, before their logarithm: stray light
CONTRAST, SPREAD = 0.13, 0.02  # thresholds of the pixels: mean, standard deviation
NOISE_HZ = 0.3  # events of a pixel without any cause
SMALL, ENLARGED = 16, 28  # pixels a side of images that are enlarged, and what they become
MARGIN = 3  # dark pixels around a picture: the movement stays inside


def simulate(images: Array, seed: int = 0) -> list[Recording]:
    """Recordings of 300 ms, one for every image.

    Parameters
    ----------
    images : (N, H, W) array
        Intensities from 0 to 1. The sensor has 6 pixels more a side.
    seed : int
        Of the thresholds and the noise; a recording depends on its place among the images too.

    Raises
    ------
    UserError
        Other shapes or intensities.
    """
    images = np.asarray(images, np.float32)
    if images.ndim != 3 or not images.size or images.min() < 0 or images.max() > 1:
        raise UserError(f"events are simulated of images (N, H, W) from 0 to 1, not of {images.shape}")
    return [_one(image, np.random.default_rng([seed, i])) for i, image in enumerate(images)]


def simulated_set(images: str, root: Path | None, seed: int, rows: Sequence[int] | None = None) -> EventSet:
    """Events simulated of the images of a data set by name, with its splits; the smallest are enlarged first."""
    data = load_images(images, root=root)
    recordings, labels, splits = [], [], []
    top = max(float(part.images[:].max()) for part in (data.train, data.val, data.test))
    for number, (split, most) in enumerate(zip(("train", "val", "test"), rows or (None,) * 3, strict=True)):
        part = getattr(data, split)
        grey = torch.from_numpy(np.asarray(part.images[:most], np.float32)).mean(1, keepdim=True) / top
        if min(grey.shape[2:]) < SMALL:
            grey = interpolate(grey, size=(ENLARGED, ENLARGED), mode="bilinear")
        recordings += simulate(grey[:, 0].clamp(0, 1).numpy(), seed=3 * seed + number)
        labels += part.labels[:most].tolist()
        splits += [split] * len(part.labels[:most])
    note = f"events SIMULATED of {images}: no event camera saw them"
    return EventSet(recordings, np.array(labels), data.class_names, np.array(splits), None, [note])


def _one(image: Array, rng: np.random.Generator) -> Recording:
    padded = np.pad(image, MARGIN)
    height, width = padded.shape
    path = np.concatenate([_saccade(*CORNERS[i : i + 2]) for i in range(3)])  # (T, 2)
    light = np.log(DARK + _moved(padded, path)).reshape(len(path), -1)  # (T, pixels)
    pixels = light.shape[1]
    threshold = np.maximum(rng.normal(CONTRAST, SPREAD, pixels), 0.01).astype(np.float32)
    level = (light - light[0]) / threshold + rng.random(pixels, np.float32) - 0.5  # in thresholds, from a random phase
    t, pixel, p = _crossings(level)
    noise = rng.poisson(NOISE_HZ * 3 * SACCADE_US / 1e6 * pixels)
    t = np.concatenate([t, rng.uniform(0, 3 * SACCADE_US, noise)])
    pixel = np.concatenate([pixel, rng.integers(0, pixels, noise)])
    p = np.concatenate([p, rng.integers(0, 2, noise)])
    order = np.argsort(t, kind="stable")
    t, pixel, p = t[order], pixel[order], p[order]
    return Recording(t.astype(np.int64), (pixel % width).astype(np.uint16), (pixel // width).astype(np.uint16),
                     p.astype(np.uint8), (width, height))  # fmt: skip


def _saccade(start: Array, end: Array) -> Array:
    """Positions of one: from rest to rest, the speed a half wave (the first position is the last one's of before)."""
    share = (1 - np.cos(np.pi * np.arange(STEPS + 1) / STEPS)) / 2
    return np.asarray(start + share[:, None] * (end - start))


def _moved(image: Array, path: Array) -> Array:
    """The image at every position of the camera, bilinear: (T, H, W)."""
    whole = np.floor(path).astype(int)
    dx, dy = (path - whole).T[:, :, None, None].astype(np.float32)
    big = np.pad(image, 3)
    height, width = image.shape
    windows = np.lib.stride_tricks.sliding_window_view(big, (height, width))
    column, row = 3 + whole.T
    upper = windows[row, column] * (1 - dx) + windows[row, column + 1] * dx
    lower = windows[row + 1, column] * (1 - dx) + windows[row + 1, column + 1] * dx
    return np.asarray(upper * (1 - dy) + lower * dy)


def _crossings(level: Array) -> tuple[Array, Array, Array]:
    """Where lines between the levels (T, pixels) cross whole numbers: times in us, pixels, polarities.

    A pixel fires when it is one threshold away from where it fired last: going back over the same line is no event.
    """
    steps = len(level)
    fired = np.empty_like(level)  # whole number that the pixel fired at last
    fired[0] = np.rint(level[0])
    for i in range(1, steps):
        up, down = np.floor(level[i]), np.ceil(level[i])
        fired[i] = np.where(up > fired[i - 1], up, np.where(down < fired[i - 1], down, fired[i - 1]))
    moves = np.diff(fired, axis=0)
    step, pixel = np.nonzero(moves)
    count = np.abs(moves[step, pixel]).astype(int)
    sign = np.sign(moves[step, pixel])
    each = np.repeat(np.arange(len(step)), count)
    nth = np.arange(len(each)) - np.repeat(np.cumsum(count) - count, count) + 1  # 1, 2, ... within a move
    line = fired[step, pixel][each] + sign[each] * nth
    before, after = level[step, pixel][each], level[step + 1, pixel][each]
    share = (line - before) / (after - before)
    duration = 3 * SACCADE_US / (steps - 1)
    return (step[each] + share) * duration, pixel[each], sign[each] > 0
