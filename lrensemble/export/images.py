"""Images for a team, from files: every file is an array of the team's shape, or an error that says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.export.card import Preprocessing
from lrensemble.export.rows import numbers
from lrensemble.export.unit import Unit
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
        return self.array(read_numbers(path, self.key)) if path.suffix.lower() in ARRAYS else self.picture(path)

    def rows(self, found: Sequence[Any]) -> Array:
        """The same of nested lists of numbers, one image each."""
        return self.array(numbers(found))

    def picture(self, file: Path | IO[bytes]) -> Array:
        """The same of an image file."""
        channels, height, width = self.preprocessing.input_shape
        if channels not in MODES:
            raise UserError(f"the team takes {channels} channels, which no image file has: use .npy or .npz")
        mode, picture = MODES[channels], read_picture(file)
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
        return self._scaled(pixels.reshape(1, height, width, channels).transpose(0, 3, 1, 2))

    def array(self, images: Array) -> Array:
        """The same of an array, channels first or last."""
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
        return self._scaled(np.asarray(split.images), images.dtype.kind == "f")

    def _scaled(self, images: Array, is_float: bool = False) -> Array:
        scaled = images.astype(np.float32) * np.float32(self.scale)
        self._check_unit(scaled, is_float)
        return scaled

    def _check_unit(self, images: Array, is_float: bool) -> None:
        """Values that are surely in another unit than the training images: pixels up to 255 for 0 to 1, or the like."""
        unit, least, most = Unit.of(self.preprocessing), float(images.min()), float(images.max())
        if unit and unit.known and (mistake := unit.mistake(least, most, is_float)):
            what = f"values from {least:g} to {most:g}, the team was trained on {unit}: "
            if mistake == "shifted":
                raise UserError(f"{what}give them as training had them, the team normalises by itself")
            white, factor = unit.factor(most)
            raise UserError(
                f"{what}--scale multiplies them ({unit.high:g}/{white} = {factor:.6g}, where {white} is white)"
            )
