"""Figures as files: png, svg, or a page of html that reads in light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from lrensemble.errors import UserError
from lrensemble.installing import install
from lrensemble.pool.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".html")
INK = "#1b1b1f"  # text and axes; the text's colour on a page, light or dark
# Okabe and Ito's colours that read on white and on black (without their yellow).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
DPI = 300

SETTINGS: Any = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
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
    "svg.hashsalt": "lrensemble",  # the same numbers, the same bytes
    "svg.fonttype": "path",  # looks the same where the font is missing
}


def check_target(path: Path) -> None:
    """Raise `UserError` unless `path` can be drawn: its suffix is known and matplotlib is there."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: cannot draw {path.suffix or 'a file without a suffix'}: use .png, .svg or .html")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError(f"drawing needs matplotlib: {install('plot')}") from None


def plain(text: str) -> str:
    """`text` for matplotlib, which reads what is between two $ as mathematics."""
    return text.replace("$", r"\$")


def draw(
    path: Path, make: Callable[[], Figure], *, title: str, summary: str, items: Sequence[str], lines: bool = True
) -> None:
    """Write the figure that `make` returns, by the suffix of `path`.

    `title`, and `items` (lines of text) under `summary`, are what a page of html has beside the picture. `lines` says
    that it has few colours, so that a png of 256 is enough.
    """
    check_target(path)
    import matplotlib

    kind = path.suffix.lower()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not what the user's matplotlibrc says
        matplotlib.rcParams.update(SETTINGS)
        figure = make()
        if kind == ".png":
            png = _saved(figure, "png", metadata={"Software": None})
            data = _small(png) if lines else png
        else:
            data = _saved(figure, "svg", transparent=kind == ".html", metadata={"Date": None, "Creator": None})
    if kind == ".html":
        data = _page(data.decode(), title, summary, items).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda file: file.write(data))


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


def _page(svg: str, title: str, summary: str, items: Sequence[str]) -> str:
    """One page that needs nothing else. The ink follows the page, so that it reads in light and dark."""
    from lrensemble.report.page.templates import templates

    drawing = svg[svg.index("<svg") :].removeprefix("<svg").replace(INK, "currentColor").strip()
    drawing = re.sub(r"<metadata>.*?</metadata>\s*", "", drawing, flags=re.DOTALL)
    values = {"title": title, "ink": INK, "drawing": Markup(drawing), "summary": summary, "items": items}
    return templates().get_template("figure.html").render(values) + "\n"
