"""A few rows of a pool's data, small enough for a page: pictures, or the beginnings of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.pool import Pool
from lrensemble.report.page.heatmap import png_address
from lrensemble.terminal import shown

if TYPE_CHECKING:
    from lrensemble.tasks.text.task import TextTask

SIDE = 48  # pixels of a picture at most
COLOURS = 64  # of a picture: about 2 kB
LETTERS = 240  # of a text
VALUES = 2**28  # of all rows of images, and
TEXTS = 50_000  # texts, that are read to show some: seconds


@dataclass(frozen=True)
class Example:
    """One row: the ``data:`` address of a PNG, or a text."""

    picture: str | None = None
    text: str | None = None


def examples_of(pool: Pool, rows: Sequence[int], show: bool = True) -> tuple[dict[int, Example], str]:
    """Test rows by their numbers, and why there are none.

    The pool may be a stranger's, and names the data: they are read by our own code alone, from this machine, and shown
    only where they have the pool's fingerprint.
    """
    if not show:
        return {}, "asked for without the data"
    if not rows:
        return {}, ""
    name, header = str(pool.task.data.get("name")), pool.task
    count = sum(header.rows.values())
    if (name == "text" and count > TEXTS) or math.prod(header.input_shape) * count > VALUES:
        return {}, f"the data are large ({count:,} rows)"
    from lrensemble.evaluation.network import load_data  # torch, which a page without pictures does not wait for
    from lrensemble.tasks import SOURCES, Images
    from lrensemble.tasks.text.task import TextTask

    if name != "text" and name not in SOURCES:
        return {}, "its rows are neither pictures nor texts that lrensemble reads itself"
    try:
        task = load_data(pool)
    except UserError as error:
        return {}, str(error)
    if isinstance(task, Images):
        return pictures_of({row: np.asarray(task.test.images[row]) for row in rows}), ""
    if isinstance(task, TextTask):
        return {row: Example(text=_text(task, row)) for row in rows}, ""
    return {}, f"nothing is known of how rows of {name} look"


def pictures_of(images: dict[int, Array]) -> dict[int, Example]:
    """Images (C, H, W) as PNGs of at most `SIDE` pixels, from black to white over the range that all of them have."""
    whole = np.stack(list(images.values())).astype(np.float64)
    low, high = float(whole.min()), float(whole.max())
    share = (whole - low) / ((high - low) or 1.0)
    pixels = np.clip(np.round(255 * share), 0, 255).astype(np.uint8)
    return {row: Example(picture=_png(image)) for row, image in zip(images, pixels, strict=True)}


def _png(image: Array) -> str:
    from PIL import Image  # comes with torchvision

    is_colour = len(image) >= 3
    shape = image[:3].transpose(1, 2, 0) if is_colour else image[0]
    picture: Any = Image.fromarray(np.ascontiguousarray(shape))
    picture.thumbnail((SIDE, SIDE))
    if is_colour:
        picture = picture.quantize(COLOURS)
    return png_address(picture)


def _text(task: TextTask, row: int) -> str:
    text = task.tokenizer.decode(task.rows_of["test"][row].sequences[0])
    return shown(text if len(text) <= LETTERS else text[:LETTERS] + " …")
