"""A picture as one SVG file that needs nothing else: the same numbers, the same bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

import numpy as np

from lrensemble.array import Array
from lrensemble.policies.lines import bends
from lrensemble.report.drawing import INK, Band, Dash, Layer, Matrix, Panel, Picture, Points, Polyline, Rule, Span
from lrensemble.report.page.heatmap import heatmap_png

INCH = 96.0  # pixels
POINT = INCH / 72
LEFT, RIGHT, TOP, BOTTOM, BAR = (
    62.0,
    14.0,
    12.0,
    46.0,
    62.0,
)  # pixels around the axes
TEXT, SMALL = 12.0, 10.5  # pixels of letters
LETTER = 0.58  # of them, the mean width of a letter
HANDLE, ROW, GAP = 34.0, 16.0, 18.0  # of a legend: pixels of the stroke, of a row, between columns
TOLERANCE = 0.1  # pixels that a line may be off
SHAPES: dict[str, list[tuple[float, float]]] = {
    "s": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "D": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    "^": [(0, -1.2), (1.1, 1), (-1.1, 1)],
    "v": [(0, 1.2), (1.1, -1), (-1.1, -1)],
    "P": [(-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4),
          (0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)],
    "*": [(r * np.sin(a), -r * np.cos(a)) for r, a in zip([1.3, 0.55] * 5, np.arange(10) * np.pi / 5, strict=True)],
}  # fmt: skip


def svg(picture: Picture, paper: str | None = "#ffffff") -> str:
    """The file's text; without `paper` what is behind it is seen."""
    parts: list[str] = []
    width = height = 0.0
    for row in picture.rows:
        x = 0.0
        for panel in row:
            parts.append(f'<g transform="translate({x:g} {height:g})">{_panel(panel, len(parts))}</g>')
            x += _size(panel)[0]
        width, height = max(width, x), height + max(_size(panel)[1] for panel in row)
    behind = f'<rect width="100%" height="100%" fill="{paper}"/>' if paper else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="system-ui, sans-serif" font-size="{TEXT:g}" fill="{INK}">'
        f"{behind}{''.join(parts)}</svg>\n"
    )


def _size(panel: Panel) -> tuple[float, float]:
    """Pixels that a panel takes with everything around its axes."""
    bar = BAR if any(isinstance(layer, Matrix) and layer.bar for layer in panel.layers) else 0.0
    rows = _legend(panel)[1]
    title = ROW if panel.title else 0.0
    return LEFT + panel.width * INCH + RIGHT + bar, TOP + title + panel.height * INCH + BOTTOM + ROW * rows


def _panel(panel: Panel, number: int) -> str:
    width, height = panel.width * INCH, panel.height * INCH
    top = TOP + (ROW if panel.title else 0.0)
    out = [f'<clipPath id="p{number}"><rect width="{width:g}" height="{height:g}"/></clipPath>']
    for tick, name in panel.x.ticks():
        at = width * float(panel.x.share(tick))
        out.append(_rule(at, 0, at, height, opacity=0.12, show=panel.grid))
        out.append(_text(at, height + 16, name, SMALL + 0.5, "middle"))
    for tick, name in panel.y.ticks():
        at = height * (1 - float(panel.y.share(tick)))
        out.append(_rule(0, at, width, at, opacity=0.12, show=panel.grid))
        out.append(_text(-7, at + 4, name, SMALL + 0.5, "end"))
    inside = [_layer(layer, panel, width, height) for layer in panel.layers]
    out.append(f'<g clip-path="url(#p{number})">{"".join(inside)}</g>')
    out.append(_rule(0, height, width, height, show=panel.grid) + _rule(0, 0, 0, height, show=panel.grid))
    out.append(_text(width / 2, height + 36, panel.x.title, TEXT, "middle"))
    out.append(f'<g transform="translate({13 - LEFT:g} {height / 2:g}) rotate(-90)">')
    out.append(f"{_text(0, 0, panel.y.title, TEXT, 'middle')}</g>")
    out += [_text(0, -8, panel.title, TEXT)] if panel.title else []
    out += [_bar(layer, width, height) for layer in panel.layers if isinstance(layer, Matrix) and layer.bar]
    out.append(f'<g transform="translate({-LEFT + 10:g} {height + BOTTOM + 8:g})">{_legend(panel)[0]}</g>')
    return f'<g transform="translate({LEFT:g} {top:g})">{"".join(out)}</g>'


def _layer(layer: Layer, panel: Panel, width: float, height: float) -> str:
    def at(x: Iterable[float], y: Iterable[float]) -> Array:
        return np.stack([width * panel.x.share(x), height * (1 - panel.y.share(y))], axis=-1)

    match layer:
        case Polyline():
            points = _stairs(at(layer.x, layer.y)) if layer.stairs else at(layer.x, layer.y)
            dots = "".join(_mark("o", x, y, 2.5 * POINT, layer.colour) for x, y in points) if layer.dots else ""
            style = _stroke(layer.colour, layer.width, layer.dash, layer.opacity)
            return f'<path d="{_path(points)}" fill="none" stroke-linejoin="round"{style}/>{dots}'
        case Points():
            size, edge = layer.size * POINT, INK if layer.edge else ""
            marks = (_mark(layer.shape, x, y, size, layer.colour, edge) for x, y in at(layer.x, layer.y))
            return f'<g opacity="{layer.opacity:g}">{"".join(marks)}</g>'
        case Span():
            (left, _), (right, _) = at([layer.low, layer.high], [panel.y.low] * 2)
            return (
                f'<rect x="{left:.1f}" width="{right - left:.1f}" height="{height:g}" fill="{layer.colour}" '
                f'opacity="{layer.opacity:g}"/>'
            )
        case Rule():
            across, up = width * float(panel.x.share(layer.at)), height * (1 - float(panel.y.share(layer.at)))
            ends = (0.0, up, width, up) if layer.flat else (across, 0.0, across, height)
            return _rule(*ends, layer.colour, layer.dash, width=1.0)
        case Band():
            outline = np.concatenate([at(layer.x, layer.low), at(layer.x, layer.high)[::-1]])
            return f'<path d="{_path(outline)}z" fill="{layer.colour}" opacity="{layer.opacity:g}"/>'
        case Matrix():
            (left, bottom), (right, top) = at(layer.x, layer.y)
            picture = _image(layer.values, layer)
            return _embedded(picture, min(left, right), top, abs(right - left), bottom - top, flip=left > right)


def _stairs(points: Array) -> Array:
    """Corners between points: first across, then up or down."""
    corners = np.column_stack([points[1:, 0], points[:-1, 1]])
    return np.concatenate([np.stack([points[:-1], corners], axis=1).reshape(-1, 2), points[-1:]])


def _path(points: Array) -> str:
    """Fewer points that lie at most `TOLERANCE` beside the line, as relative steps."""
    kept = np.round(points[bends(points.tolist(), TOLERANCE)], 1)
    steps = np.round(np.diff(kept, axis=0), 1) + 0.0
    return f"M{kept[0, 0]:g} {kept[0, 1]:g}" + "".join(f"l{x:g} {y:g}" for x, y in steps)


def _mark(shape: str, x: float, y: float, size: float, colour: str, edge: str = "") -> str:
    stroke = f' stroke="{edge}" stroke-width="0.5"' if edge else ""
    if shape not in SHAPES:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size / 2:.2g}" fill="{colour}"{stroke}/>'
    corners = " ".join(f"{x + a * size / 2:.1f},{y + b * size / 2:.1f}" for a, b in SHAPES[shape])
    return f'<polygon points="{corners}" fill="{colour}"{stroke}/>'


def _rule(
    x1: float, y1: float, x2: float, y2: float, colour: str = INK, dash: Dash = (), *, width: float = 0.6,
    opacity: float = 1.0, show: bool = True,
) -> str:  # fmt: skip
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f"<line {ends}{_stroke(colour, width, dash, opacity)}/>" if show else ""


def _stroke(colour: str, width: float, dash: Dash = (), opacity: float = 1.0) -> str:
    """Attributes of a line of so many points."""
    pixels = width * POINT
    words = f' stroke="{colour}" stroke-width="{pixels:.2g}"'
    if dash:
        words += f' stroke-dasharray="{" ".join(f"{part * pixels:.3g}" for part in dash)}"'
    return words + (f' opacity="{opacity:g}"' if opacity < 1 else "")


def _text(x: float, y: float, words: str, size: float, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}">{escape(words)}</text>'


def _image(values: Array, scale: Matrix) -> str:
    sign = 1 if scale.dark >= scale.light else -1
    return heatmap_png(sign * values, sign * scale.light, sign * scale.dark)


def _embedded(picture: str, x: float, y: float, width: float, height: float, flip: bool = False) -> str:
    turned = f' transform="matrix(-1 0 0 1 {2 * x + width:.1f} 0)"' if flip else ""
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'style="image-rendering: pixelated" href="{picture}"{turned}/>'
    )


def _bar(matrix: Matrix, width: float, height: float) -> str:
    """Which number is which colour, right of the axes."""
    values = np.linspace(matrix.dark, matrix.light, 64)[:, None]
    names = [(matrix.dark, 4.0), ((matrix.dark + matrix.light) / 2, height / 2 + 4), (matrix.light, height)]
    words = [_text(width + 30, y, f"{value:.3g}", SMALL) for value, y in names]
    return _embedded(_image(values, matrix), width + 14, 0, 11, height) + "".join(words)


def _legend(panel: Panel) -> tuple[str, int]:
    """The names of the layers below the axes, in as many columns as fit, and the rows that they take."""
    layers = panel.labelled
    if not layers:
        return "", 0
    room = LEFT + panel.width * INCH - 10
    letters = int((room - HANDLE) / (SMALL * LETTER))
    labels = [textwrap.wrap(layer.label, letters, subsequent_indent="    ") for layer in layers]
    columns, widths = 1, [0.0]
    for columns in range(min(3, len(layers)), 0, -1):
        widths = [max(map(_width, labels[k::columns])) for k in range(columns)]
        if sum(widths) + columns * HANDLE + (columns - 1) * GAP <= room:
            break
    out, row = [], 0
    for first in range(0, len(layers), columns):
        x = 0.0
        for k, (layer, lines) in enumerate(
            zip(layers[first : first + columns], labels[first : first + columns], strict=True)
        ):
            y = ROW * row
            out.append(_handle(layer, x, y - 4))
            out += [_text(x + HANDLE, y + ROW * i, line, SMALL) for i, line in enumerate(lines)]
            x += widths[k] + HANDLE + GAP
        row += max(map(len, labels[first : first + columns]))
    return "".join(out), row


def _width(lines: Sequence[str]) -> float:
    return max(map(len, lines)) * SMALL * LETTER


def _handle(layer: Polyline | Points | Rule, x: float, y: float) -> str:
    match layer:
        case Points():
            edge = INK if layer.edge else ""
            return _mark(layer.shape, x + HANDLE / 2 - 4, y, layer.size * POINT, layer.colour, edge)
        case Rule():
            return _rule(x, y, x + HANDLE - 8, y, layer.colour, layer.dash, width=1.0)
        case Polyline():
            return _rule(x, y, x + HANDLE - 8, y, layer.colour, layer.dash, width=layer.width)
