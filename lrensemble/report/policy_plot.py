"""Draw policies for a paper: several in one plot, told apart by colour and line style, with a legend that reads."""

from __future__ import annotations

import html
import io
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrensemble.errors import UserError
from lrensemble.pool.files import write_atomic
from lrensemble.report.policy_curves import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".html")
INK = "#1b1b1f"  # text, axes and the black curve; the text's colour on a page, light or dark
# Okabe and Ito's colours that read on white and on black (without their yellow).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
STYLES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.6, 1.2, 1.6)))
MOST = len(COLOURS) * len(STYLES)
WIDTH, HEIGHT = 6.3, 3.1  # of the axes, in inches
LABELS = 0.5  # inches left of and below the axes for their labels; the legend starts there
DPI = 300
STAIRS = 200  # a budget of at most so many steps is drawn as the stairs that it is
DECADES = 5  # of a log axis at most: policies that end in 0 pass every decade there is

SETTINGS: Any = {
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.use_mathtext": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "lines.dash_capstyle": "butt",
    "lines.solid_joinstyle": "round",
    "svg.hashsalt": "lrensemble",  # the same curves, the same bytes
    "svg.fonttype": "path",  # looks the same where the font is missing
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: {ink}; --paper: #fff; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6e6ea; --paper: #16161a; }} }}
body {{ margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }}
h1 {{ font-size: 1.3rem; font-weight: 600; }}
svg {{ display: block; width: 100%; height: auto; }}
code {{ font-size: .85rem; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
{svg}
<details><summary>The policies as text</summary>
<ul>
{items}
</ul>
</details>
</body>
</html>
"""


def check_target(path: Path) -> None:
    """Raise `UserError` unless `path` can be drawn: its suffix is known and matplotlib is there."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: cannot draw {path.suffix or 'a file without a suffix'}: use .png, .svg or .html")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("drawing needs matplotlib: pip install lrensemble[plot]") from None


def draw_policies(curves: Sequence[Curve], path: Path, *, epochs: bool, log: bool) -> None:
    """Draw `curves` into one plot and write it as png, svg or html, by the suffix of `path`.

    Parameters
    ----------
    curves : sequence of Curve
        As `policy_curves` makes them; at most `MOST`, which is as many as can be told apart.
    path : Path
    epochs : bool
        The x axis in epochs, otherwise in optimizer steps.
    log : bool
        The learning rate on a logarithmic axis.
    """
    check_target(path)
    if not curves:
        raise UserError("no policy to draw")
    if len(curves) > MOST:
        raise UserError(f"{len(curves)} policies cannot be told apart in one plot: draw at most {MOST}")
    if log and not any(curve.lr.max() > 0 for curve in curves):
        raise UserError("every learning rate is 0: a log axis cannot show that")
    import matplotlib

    kind = path.suffix.lower()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not what the user's matplotlibrc says
        matplotlib.rcParams.update(SETTINGS)
        figure = _figure(curves, epochs=epochs, log=log)
        if kind == ".png":
            data = _small(_saved(figure, "png", metadata={"Software": None}))
        else:
            data = _saved(figure, "svg", transparent=kind == ".html", metadata={"Date": None, "Creator": None})
    if kind == ".html":
        data = _page(curves, data.decode()).encode()
    write_atomic(path, lambda file: file.write(data))


def _figure(curves: Sequence[Curve], *, epochs: bool, log: bool) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)  # saved with a tight box: grows by the labels and the legend
    axes = figure.add_axes((0, 0, 1, 1))
    for i, curve in enumerate(curves):
        x, lr = (curve.epochs if epochs else curve.steps), curve.lr
        stairs = len(x) <= STAIRS and curve.steps[-1] == len(x) - 1
        if stairs:  # the last LR holds for one step, too
            x, lr = [*x, len(x) / (curve.steps_per_epoch if epochs else 1)], [*lr, lr[-1]]  # type: ignore[assignment]
        axes.plot(
            x,
            lr,
            color=COLOURS[i % len(COLOURS)],
            linestyle=STYLES[i // len(COLOURS) % len(STYLES)],
            linewidth=1.5 if len(curves) <= 6 else 1.2,
            drawstyle="steps-post" if stairs else "default",
            zorder=2 + i / MOST,
        )
    axes.set_xlim(0, max(float((c.steps[-1] + 1) / (c.steps_per_epoch if epochs else 1)) for c in curves))
    _set_lr_axis(axes, curves, log=log)
    axes.set_xlabel("Training time (epochs)" if epochs else "Training time (optimizer steps)")
    axes.set_ylabel("Learning rate")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 2.5, 5, 10], integer=not epochs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.12g}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=INK, alpha=0.12, linewidth=0.5)
    axes.set_axisbelow(True)
    _add_legend(axes, [curve.label for curve in curves])
    return figure


def _set_lr_axis(axes: Axes, curves: Sequence[Curve], *, log: bool) -> None:
    top = max(float(curve.lr.max()) for curve in curves)
    if not log:
        top = top or 1.0
        axes.set_ylim(-0.015 * top, 1.04 * top)  # a line at 0 is seen
        return
    lowest = min(float(curve.lr[curve.lr > 0].min()) for curve in curves if curve.lr.max() > 0)
    axes.set_yscale("log", nonpositive="clip")  # an LR of 0 leaves through the bottom
    axes.set_ylim(max(lowest / 1.3, top * 10.0**-DECADES), top * 1.3)


def _add_legend(axes: Axes, labels: Sequence[str]) -> None:
    """Below the axes, in as many columns as fit; what is too long for one column is wrapped."""
    shown = ["\n".join(textwrap.wrap(label, 88, subsequent_indent="    ")).replace("$", r"\$") for label in labels]

    def add(columns: int) -> float:
        legend = axes.legend(
            axes.lines,
            shown,
            loc="upper left",
            bbox_to_anchor=(-LABELS / WIDTH, -LABELS / HEIGHT),
            borderaxespad=0,
            borderpad=0,
            ncols=columns,
            frameon=False,
            handlelength=3.2,
            handletextpad=0.6,
            columnspacing=1.6,
            labelspacing=0.45,
        )
        return float(legend.get_window_extent().width) / DPI

    for columns in range(min(3, len(labels)), 0, -1):
        if add(columns) <= WIDTH + LABELS:
            break


def _saved(figure: Figure, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=format, bbox_inches="tight", pad_inches=0.04, **options)
    return buffer.getvalue()


def _small(png: bytes) -> bytes:
    """The same picture in 256 colours, which is all that lines on white need: a quarter of the size."""
    from PIL import Image  # comes with matplotlib

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        flat = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    flat.save(buffer, "png", optimize=True, dpi=(DPI, DPI))
    return buffer.getvalue()


def _page(curves: Sequence[Curve], svg: str) -> str:
    """One page that needs nothing else. The ink follows the page, so that it reads in light and dark."""
    count = len(curves)
    title = f"Learning-rate policies ({count})" if count > 1 else f"Learning-rate policy {curves[0].label}"
    drawing = svg[svg.index("<svg") :].replace(INK, "currentColor")
    drawing = re.sub(r"<metadata>.*?</metadata>\s*", "", drawing, flags=re.DOTALL)
    drawing = drawing.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
    items = "\n".join(f"<li><code>{html.escape(curve.label)}</code></li>" for curve in curves)
    return PAGE.format(title=html.escape(title), ink=INK, svg=drawing.strip(), items=items)
