"""A picture as png for print, by matplotlib."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

from lrensemble.report.drawing import INK, AxisScale, Band, Layer, Matrix, Panel, Picture, Points, Polyline, Rule, Span
from lrensemble.report.page.heatmap import COLOURS as HEAT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 300
GAP, LABELS = 1.5, 0.5  # inches between panels; left of and below the axes for their labels
SETTINGS: Any = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "lines.dash_capstyle": "butt",
    "lines.solid_joinstyle": "round",
}


def png(picture: Picture) -> bytes:
    """The file; the user's matplotlibrc and this process's settings have no part in it."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        buffer = io.BytesIO()
        figure = _figure(picture)
        figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.04, metadata={"Software": None})
    if any(isinstance(layer, Matrix) for layer in picture.layers):
        return buffer.getvalue()
    return _small(buffer)


def _small(png: io.BytesIO) -> bytes:
    """The same picture in 256 colours, which is all that lines on white need: a quarter of the size."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(png) as image:
        flat = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    flat.save(buffer, "png", optimize=True, dpi=(DPI, DPI))
    return buffer.getvalue()


def _figure(picture: Picture) -> Figure:
    """Axes where `svg_file` has them; saved with a tight box, it grows by labels and legends."""
    from matplotlib.figure import Figure

    heights = [max(panel.height for panel in row) for row in picture.rows]
    width = max(sum(panel.width for panel in row) + GAP * (len(row) - 1) for row in picture.rows)
    top = height = sum(heights) + GAP * (len(heights) - 1)
    figure = Figure(figsize=(width, height), dpi=DPI)
    for row, down in zip(picture.rows, heights, strict=True):
        left = 0.0
        for panel in row:
            box = (left / width, (top - panel.height) / height, panel.width / width, panel.height / height)
            _draw(figure, figure.add_axes(box), panel)
            left += panel.width + GAP
        top -= down + GAP
    return figure


def _draw(figure: Figure, axes: Axes, panel: Panel) -> None:
    handles = []
    for layer in panel.layers:
        drawn = _layer(figure, axes, layer)
        if isinstance(layer, Polyline | Points | Rule) and layer.label:
            handles.append((drawn, layer.label))
    for name, scale in (("x", panel.x), ("y", panel.y)):
        _set_scale(axes, name, scale)
    axes.set_title(plain(panel.title), loc="left")
    axes.spines[:].set_visible(panel.grid)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2.5 if panel.grid else 0)
    if panel.grid:
        axes.grid(color=INK, alpha=0.12, linewidth=0.5)
        axes.set_axisbelow(True)
    if handles:
        _add_legend(axes, panel, handles)


def _set_scale(axes: Axes, name: str, scale: AxisScale) -> None:
    axes.set(**{f"{name}label": plain(scale.title)})
    axis = getattr(axes, f"{name}axis")
    if scale.log:
        axes.set(**{f"{name}scale": "log"})
    axes.set(**{f"{name}lim": (scale.low, scale.high)})
    ticks = scale.ticks()
    axis.set_ticks([tick for tick, _ in ticks], [name for _, name in ticks])
    axis.set_ticks([], minor=True)


def _layer(figure: Figure, axes: Axes, layer: Layer) -> Any:
    match layer:
        case Polyline():
            return axes.plot(
                layer.x,
                layer.y,
                color=layer.colour,
                linewidth=layer.width,
                linestyle=(0, layer.dash) if layer.dash else "-",
                alpha=layer.opacity,
                drawstyle="steps-post" if layer.stairs else "default",
                marker="o" if layer.dots else "",
                markersize=2.5,
            )[0]
        case Points():
            return axes.plot(
                layer.x,
                layer.y,
                layer.shape,
                color=layer.colour,
                markersize=layer.size,
                markeredgecolor=INK if layer.edge else "none",
                markeredgewidth=0.4,
                alpha=layer.opacity,
            )[0]
        case Span():
            return axes.axvspan(layer.low, layer.high, color=layer.colour, alpha=layer.opacity, linewidth=0)
        case Rule():
            draw = axes.axhline if layer.flat else axes.axvline
            return draw(layer.at, color=layer.colour, linewidth=1, linestyle=(0, layer.dash) if layer.dash else "-")
        case Band():
            return axes.fill_between(
                layer.x, layer.low, layer.high, color=layer.colour, alpha=layer.opacity, linewidth=0
            )
        case Matrix():
            from matplotlib.colors import LinearSegmentedColormap

            heat = LinearSegmentedColormap.from_list("heat", HEAT if layer.dark >= layer.light else HEAT[::-1])
            low, high = sorted((layer.light, layer.dark))
            image = axes.imshow(
                layer.values, cmap=heat, vmin=low, vmax=high, extent=(*layer.x, *layer.y), aspect="auto",
                interpolation="nearest",
            )  # fmt: skip
            if layer.bar:
                bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
                bar.outline.set_visible(False)
            return image


def _add_legend(axes: Axes, panel: Panel, handles: list[tuple[Any, str]]) -> None:
    """Below the axes, in as many columns as fit; what is too long for one column is wrapped."""
    shown = ["\n".join(textwrap.wrap(label, 88, subsequent_indent="    ")) for _, label in handles]
    for columns in range(min(3, len(handles)), 0, -1):
        legend = axes.legend(
            [handle for handle, _ in handles],
            [plain(label) for label in shown],
            loc="upper left",
            bbox_to_anchor=(-LABELS / panel.width, -LABELS / panel.height),
            borderaxespad=0,
            borderpad=0,
            ncols=columns,
            frameon=False,
            handlelength=3.2,
            handletextpad=0.6,
            columnspacing=1.6,
            labelspacing=0.45,
        )
        if float(legend.get_window_extent().width) / DPI <= panel.width + LABELS:
            break


def plain(text: str) -> str:
    """`text` for matplotlib, which reads what is between two $ as mathematics."""
    return text.replace("$", r"\$")
