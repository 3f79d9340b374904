"""A matrix as a picture with one pixel a cell: small for any number of members."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Light to dark in equal steps of lightness: white on blue in print, and readable on a dark page too.
COLOURS = ("#f3f7fb", "#cfe1f2", "#93c3df", "#4b97c9", "#1f6bb0", "#0b3a75")


def heatmap_png(values: NDArray[Any], low: float, high: float) -> str:
    """A ``data:`` address of the picture; NaN is transparent."""
    from PIL import Image  # comes with torchvision

    steps = np.linspace(0, 1, len(COLOURS))
    share = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    rgb = [[int(colour[i : i + 2], 16) for colour in COLOURS] for i in (1, 3, 5)]
    channels = [np.interp(np.nan_to_num(share), steps, channel) for channel in rgb]
    alpha = np.where(np.isfinite(values), 255, 0)
    pixels = np.stack([*channels, alpha], axis=-1).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
