"""Images for a team, from files: every file is an array of the team's shape, or an error that says what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.export.card import Preprocessing
from lrensemble.pool.reading import read_numbers
from lrensemble.tasks.dataset import make_split
from lrensemble.tasks.pictures import find_pictures, in_mode, read_picture, resized

ARRAYS = (".npy", ".npz")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Reader:
    """How files become images (C, H, W), float32, in the unit that the team was trained in.

    Attributes
    ----------
    convert : other modes are converted, as PIL does it
    resize : other sizes are resized (bilinear)
    scale : factor for every value, where files are in another unit
    key : of the array in an .npz
    """

    preprocessing: Preprocessing
    convert: bool = False
    resize: bool = False
    scale: float = 1.0
    key: str | None = None

    def find(self, folder: Path) -> list[Path]:
        """All image files below a folder."""
        return find_pictures(folder)[0]

    def read(self, path: Path) -> Array:
        """All images in a file: (n, C, H, W); `UserError` says what is wrong, without the file's name."""
        if not path.exists():
            raise UserError("it does not exist")
        images = self._array(path) if path.suffix.lower() in ARRAYS else self._picture(path)
        scaled = images.astype(np.float32) * np.float32(self.scale)
        self._check_unit(scaled, images.dtype.kind == "f")
        return scaled

    def _picture(self, path: Path) -> Array:
        channels, height, width = self.preprocessing.input_shape
        if channels not in MODES:
            raise UserError(f"the team takes {channels} channels, which no image file has: use .npy or .npz")
        mode, picture = MODES[channels], read_picture(path)
        if picture.size != (width, height) and not (self.resize or self.preprocessing.resize):
            raise UserError(
                f"{picture.width}x{picture.height} pixels, the team takes {width}x{height}: --resize resizes"
            )
        # Another way of writing the same picture, or how the training images were read.
        same = {"1": "L", "P": None if "transparency" in picture.info else "RGB"}.get(
            picture.mode, picture.mode
        ) == mode
        if not (same or self.convert or self.preprocessing.convert):
            raise UserError(f"mode {picture.mode}, the team takes {mode}: --convert converts")
        pixels = np.asarray(resized(in_mode(picture, mode), (width, height)))
        return pixels.reshape(1, height, width, channels).transpose(0, 3, 1, 2)

    def _array(self, path: Path) -> Array:
        images = read_numbers(path, self.key)
        channels, height, width = self.preprocessing.input_shape
        if images.shape == (height, width) or images.shape == (height, width, channels):
            images = images[None]
        layout = "nchw" if images.shape[1:] == (channels, height, width) else "nhwc"
        split = make_split(images, np.zeros(len(images) if images.ndim else 0, dtype=np.int64), "it", layout)
        if split.images.shape[1:] != (channels, height, width):
            raise UserError(
                f"an array of shape {images.shape}: (rows, {height}, {width}, {channels}) or "
                f"(rows, {channels}, {height}, {width}) is needed"
            )
        return np.asarray(split.images)

    def _check_unit(self, images: Array, is_float: bool) -> None:
        """Values that are surely in another unit than the training images: pixels up to 255 for 0 to 1, or the like."""
        if self.preprocessing.range is None:
            return
        low, high = self.preprocessing.range
        least, most, width = float(images.min()), float(images.max()), high - low
        if least < low - width or most > high + width or (is_float and low == 0 and least >= 0 and most <= high / 100):
            fix = 255 if most > 1 else 1
            raise UserError(
                f"values from {least:g} to {most:g}, the team was trained on {low:g} to {high:g}: --scale multiplies "
                f"them ({high:g}/{fix} = {high / fix:.6g}, where {fix} is white)"
            )
