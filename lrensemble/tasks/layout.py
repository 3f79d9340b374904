"""Which axis of an array of images holds the channels."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from lrensemble.errors import UserError

LAYOUTS = {"nchw": "channels, height, width", "nhwc": "height, width, channels"}
USUAL = (1, 3, 4)  # grey, RGB, RGBA


def channels_first(images: NDArray[Any], where: str, layout: str | None = None) -> NDArray[Any]:
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
