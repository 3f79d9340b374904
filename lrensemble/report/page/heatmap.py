"""A matrix as a picture with one pixel a cell: small for any number of members."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Light to dark in equal steps of lightness: white on blue in print, and readable on a dark page too.
COLOURS = ("#f3f7fb", "#cfe1f2", "#93c3df", "#4b97c9", "#1f6bb0", "#0b3a75")

LEVELS = 100


def heatmap_png(values: NDArray[Any], low: float, high: float) -> str:
    """A ``data:`` address of the picture; NaN is transparent."""
    from PIL import Image  # comes with torchvision

    share = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    known = np.isfinite(values)
    index = np.where(known, np.round(np.where(known, share, 0) * (LEVELS - 1)), LEVELS).astype(np.uint8)
    image = Image.fromarray(index, "P")
    rgb = [[int(colour[i : i + 2], 16) for colour in COLOURS] for i in (1, 3, 5)]
    levels, steps = np.linspace(0, 1, LEVELS), np.linspace(0, 1, len(COLOURS))
    palette = np.stack([np.interp(levels, steps, channel) for channel in rgb], axis=-1).round().astype(int)
    image.putpalette([*palette.ravel().tolist(), 0, 0, 0])
    return png_address(image, transparency=LEVELS)


def png_address(image: Any, **options: Any) -> str:
    """The ``data:`` address of a picture of PIL's."""
    buffer = io.BytesIO()
    image.save(buffer, "png", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
