"""Figures as files: png, svg, or a page of html that reads in light and dark. matplotlib is needed for png alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from lrensemble.errors import UserError
from lrensemble.installing import install
from lrensemble.pool.files import write_atomic
from lrensemble.report.drawing import INK, Picture

SUFFIXES = (".png", ".svg", ".html")


def check_target(path: Path) -> None:
    """Raise `UserError` unless `path` can be drawn: its suffix is known, and for png matplotlib is there."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: cannot draw {path.suffix or 'a file without a suffix'}: use .png, .svg or .html")
    if suffix == ".png":
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise UserError(f"{path}: a png needs matplotlib: draw .svg or .html, or {install('plot')}") from None


def draw(path: Path, picture: Picture, *, title: str, summary: str, items: Sequence[str]) -> None:
    """Write the picture by the suffix of `path`.

    `title`, and `items` (lines of text) under `summary`, are what a page of html has beside the picture.
    """
    check_target(path)
    if path.suffix.lower() == ".png":
        from lrensemble.report.png_file import png

        data = png(picture)
    else:
        from lrensemble.report.svg_file import svg

        html = path.suffix.lower() == ".html"
        text = svg(picture, None if html else "#ffffff")
        data = (_page(text, title, summary, items) if html else text).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda file: file.write(data))


def _page(svg: str, title: str, summary: str, items: Sequence[str]) -> str:
    """One page that needs nothing else. The ink follows the page, so that it reads in light and dark."""
    from lrensemble.report.page.templates import templates

    drawing = svg[svg.index("<svg") :].removeprefix("<svg").replace(INK, "currentColor").strip()
    values = {"title": title, "ink": INK, "drawing": Markup(drawing), "summary": summary, "items": items}
    return templates().get_template("figure.html").render(values) + "\n"
